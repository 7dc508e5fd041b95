"""``GET /healthz`` and ``GET /metrics`` of a long-running process, in a thread of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any


def serve(
    health: Callable[[], tuple[bool, dict[str, Any]]], metrics: Callable[[], Iterable[str]], port: int, host: str = ""
) -> ThreadingHTTPServer:
    """Answer until the process ends.

    :param health: whether all is well (200, else 503), and the figures to show.
    :param metrics: lines as Prometheus reads them.
    :param port: 0 takes a free one.
    :param host: empty for all addresses, of IPv6 as well where there is any: a pod may have no other.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                well, figures = health()
                self._answer(200 if well else 503, "application/json", json.dumps(figures))
            elif path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", "\n".join(metrics()) + "\n")
            else:
                self._answer(404, "application/json", '{"error": "there are /healthz and /metrics"}')

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes are no news."""

    server = _Server((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="spoke-health", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if not address[0] and socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """On both families, where it is to be all; without looking up the host's name, which DNS may not answer."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]


def metric(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    """The lines of a metric without labels."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {float(value):.15g}"


def labelled(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[str]:
    """A metric with one label."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for value, number in values.items():
        yield f'{name}{{{label}="{value}"}} {float(number):.15g}'
