"""Whether sync is alive, for a probe: its loop turns, also while database or API server are away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALE_SECONDS = 120.0
"""A loop that hasn't turned for so long hangs: longer than all time-outs of one turn."""


class Pulse:
    """When what last happened, written by the loop and read by the probe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned = clock()
        self._compared: float | None = None
        self.role = "starting"
        """starting, standby, active, or what it waits for."""

    def turned(self) -> None:
        """The loop has come round."""
        self._turned = self._clock()

    def compared(self) -> None:
        """Ledger and cluster have been compared as a whole."""
        self._compared = self._clock()

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well with the loop, and the figures."""
        now = self._clock()
        since_turn = now - self._turned
        since_compare = None if self._compared is None else round(now - self._compared, 1)
        figures = {
            "role": self.role,
            "secondsSinceTurn": round(since_turn, 1),
            "secondsSinceCompare": since_compare,
        }
        return since_turn < STALE_SECONDS, figures


def serve_health(pulse: Pulse, port: int, host: str = "") -> ThreadingHTTPServer:
    """Answer ``GET /healthz`` in a thread of its own: 200 while the loop turns, else 503. Port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            alive, figures = pulse.report()
            known = self.path.partition("?")[0] == "/healthz"
            body = json.dumps(figures if known else {"error": "only /healthz is here"}).encode()
            self.send_response((200 if alive else 503) if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes are no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="spoke-health", daemon=True).start()
    return server
