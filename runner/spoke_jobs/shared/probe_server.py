"""The HTTP server for probes and metrics of the operator, sync and the worker. It answers in its own threads.

Whoever reaches the port may send requests. So the number of connections is bounded, and so is the time that answers
take from the process.

The task server has its own HTTP server and uses only :func:`exposition`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import platform
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Metric, ProcessCollector, generate_latest
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

_LOOP_SECONDS = 10.0
MOST_CONNECTIONS = 64
"""Beyond that, the oldest connection is closed of the address that has the most."""
_READ_SECONDS = 10.0
_REST, _LONGEST_REST_SECONDS = 2.0, 1.0
"""An answer is given again for twice the time that it took, at most a second: so answers take at most a third of the
process's time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    content_type: str
    body: bytes


Routes = Mapping[str, Callable[[], Answer]]
"""Functions that answer, by path, or by path and query. A path answers for all queries that are not listed."""


def text_answer(ok: bool, text: str) -> Answer:
    """Return a probe's answer as plain text: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "text/plain; charset=utf-8", text.encode())


def json_answer(ok: bool, fields: Mapping[str, Any]) -> Answer:
    """Return a probe's answer as JSON: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "application/json", json.dumps(fields).encode())


def exposition(component: str, families: Iterable[Metric]) -> Answer:
    """Return metrics in Prometheus' text format, preceded by the metrics that every process has.

    :param component: the process: operator, sync, worker or tasks.
    """
    return Answer(200, CONTENT_TYPE_LATEST, generate_latest(_Families([*_of_process(component), *families])))


def _of_process(component: str) -> Iterator[Metric]:
    build = {"component": component, "version": _version(), "python": platform.python_version()}
    yield InfoMetricFamily("spoke_build", "The release of spoke-jobs and of Python.", build)
    yield from _PROCESS.collect()


@cache
def _version() -> str:
    try:
        return version("spoke-jobs")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


_PROCESS = ProcessCollector(registry=None)
"""CPU, memory, open files and start of this process; without values where there is no /proc."""


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

    shared = {path: _SharedAnswers(answer) for path, answer in routes.items()}

    class Handler(BaseHTTPRequestHandler):
        timeout = _READ_SECONDS

        def do_GET(self) -> None:
            route = shared.get(self.path) or shared.get(self.path.partition("?")[0])
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


class _SharedAnswers:
    """The answers of one route. Requests that arrive at about the same time get the same one."""

    def __init__(self, answer: Callable[[], Answer]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._last: concurrent.futures.Future[Answer] | None = None
        self._until = 0.0

    def __call__(self) -> Answer:
        computes = False
        with self._lock:
            began, last = time.monotonic(), self._last
            if last is None or (last.done() and began >= self._until):
                last = self._last = concurrent.futures.Future()
                computes = True
        if computes:
            self._compute(last, began)
        return last.result()

    def _compute(self, into: concurrent.futures.Future[Answer], began: float) -> None:
        try:
            answer = self._answer()
        except BaseException as error:
            into.set_exception(error)
            return
        now = time.monotonic()
        self._until = now + min(_REST * (now - began), _LONGEST_REST_SECONDS)
        into.set_result(answer)


class _Server(ThreadingHTTPServer):
    """A server that keeps at most :data:`MOST_CONNECTIONS` connections, each with a thread."""

    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, str] = {}
        """The address of each, the oldest first."""
        if address[0]:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        elif socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room for the connection, and start its thread."""
        with self._lock:
            self._connections[request] = str(client_address[0])
            if len(self._connections) > MOST_CONNECTIONS:
                ((most, _),) = Counter(self._connections.values()).most_common(1)
                oldest = next(item for item, peer in self._connections.items() if peer == most)
                del self._connections[oldest]
                with suppress(OSError):  # its thread then closes it
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not print a traceback: the peer has gone, or its time was up."""
        logger.debug("a connection of %s ended early", client_address[0], exc_info=True)

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
    paths = [route for route in routes if "?" not in route]
    return Answer(404, "application/json", json.dumps({"error": f"there are {' and '.join(paths)}"}).encode())
