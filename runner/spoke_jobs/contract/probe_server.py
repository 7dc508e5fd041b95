"""The HTTP server for probes and metrics of the operator, sync and the worker. It answers in its own threads.

The task server has its own HTTP server and uses only :func:`exposition`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

_LOOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    content_type: str
    body: bytes


Routes = Mapping[str, Callable[[], Answer]]
"""Functions that answer, by path."""


def text_answer(ok: bool, text: str) -> Answer:
    """Return a probe's answer as plain text: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "text/plain; charset=utf-8", text.encode())


def json_answer(ok: bool, fields: Mapping[str, Any]) -> Answer:
    """Return a probe's answer as JSON: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "application/json", json.dumps(fields).encode())


def exposition(families: Iterable[Metric]) -> Answer:
    """Return metrics in Prometheus' text format."""
    return Answer(200, CONTENT_TYPE_LATEST, generate_latest(_Families(families)))


def by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    """Return a counter with one label. ``name`` is without ``_total``."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def in_loop(answer: Callable[[], Answer]) -> Callable[[], Answer]:
    """Wrap a function so that it runs in the current event loop, because it reads data of that loop.

    If the loop hangs, the answer is 503.
    """
    loop = asyncio.get_running_loop()

    async def compute() -> Answer:
        return answer()

    def call() -> Answer:
        computing = asyncio.run_coroutine_threadsafe(compute(), loop)
        try:
            return computing.result(_LOOP_SECONDS)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            computing.cancel()
            return text_answer(ok=False, text="the event loop does not respond\n")

    return call


def serve(routes: Routes, port: int, host: str = "") -> ThreadingHTTPServer:
    """Answer GET and HEAD requests in threads until :func:`close` is called.

    :param port: 0 for any free port.
    :param host: empty for all addresses, including IPv6 if the machine has it: a pod may have only IPv6.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            try:
                answer = route() if route else _not_found(routes)
            except Exception:
                logger.exception("unexpected error; %s answers 500", self.path)
                answer = Answer(500, "text/plain; charset=utf-8", b"unexpected error; see the log\n")
            self._send(answer)

        do_HEAD = do_GET  # noqa: N815 (the base class' name)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None:
            """Log nothing: probes come every few seconds."""

    server = _Server((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="spoke-health", daemon=True).start()
    return server


def close(server: ThreadingHTTPServer) -> None:
    """Stop answering and free the port."""
    server.shutdown()
    server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if address[0]:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        elif socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind IPv4 and IPv6 if all addresses are wanted. Don't look up the host's name: DNS may not answer."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _not_found(routes: Routes) -> Answer:
    return Answer(404, "application/json", json.dumps({"error": f"there are {' and '.join(routes)}"}).encode())
