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
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http.server import ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, Metric, ProcessCollector, generate_latest
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from spoke_jobs.shared.bounded_server import BoundedHandler, BoundedServer

logger = logging.getLogger(__name__)

_LOOP_SECONDS = 10.0
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

    class Handler(BoundedHandler):
        timeout = _READ_SECONDS

        def do_GET(self) -> None:  # noqa: N802 (the base class' name)
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

    server = BoundedServer((host, port), Handler)
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


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _not_found(routes: Routes) -> Answer:
    paths = [route for route in routes if "?" not in route]
    return Answer(404, "application/json", json.dumps({"error": f"there are {' and '.join(paths)}"}).encode())
