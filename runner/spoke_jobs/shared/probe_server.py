"""The HTTP server for probes and metrics of the operator, sync and the worker. It answers in its own threads.

Whoever reaches the port may send requests. So the number of connections is bounded, and so is the time that answers
take from the process.

The task server has its own HTTP server.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

from spoke_jobs.shared.bounded_server import BoundedHandler, BoundedServer
from spoke_jobs.shared.metric_exposition import Exposition, MetricFormat, wanted_format

logger = logging.getLogger(__name__)

_LOOP_SECONDS = 10.0
_READ_SECONDS = 10.0
_REST, _LONGEST_REST_SECONDS = 5.0, 1.0
"""An answer is given again for five times the time that it took, at most a second. Metrics may have to be made in the
other format meanwhile: so answers take at most a third of the process's time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    content_type: str
    body: bytes


Served = Answer | Exposition
Routes = Mapping[str, Callable[[], Served]]
"""Functions that answer, by path, or by path and query. A path answers for all queries that are not listed."""


def text_answer(ok: bool, text: str) -> Answer:
    """Return a probe's answer as plain text: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "text/plain; charset=utf-8", text.encode())


def json_answer(ok: bool, fields: Mapping[str, Any]) -> Answer:
    """Return a probe's answer as JSON: 200, or 503 if not ``ok``."""
    return Answer(200 if ok else 503, "application/json", json.dumps(fields).encode())


def in_loop(answer: Callable[[], Served]) -> Callable[[], Served]:
    """Wrap a function so that it runs in the current event loop, because it reads data of that loop.

    If the loop hangs, the answer is 503.
    """
    loop = asyncio.get_running_loop()

    async def compute() -> Served:
        return answer()

    def call() -> Served:
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
                answer = route(self.headers.get("Accept", "")) if route else _not_found(routes)
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

    def __init__(self, answer: Callable[[], Served]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._last: concurrent.futures.Future[Served] | None = None
        self._until = 0.0

    def __call__(self, accept: str) -> Answer:
        computes, wanted = False, wanted_format(accept)
        with self._lock:
            began, last = time.monotonic(), self._last
            if last is None or (last.done() and began >= self._until):
                last = self._last = concurrent.futures.Future()
                computes = True
        if computes:
            self._compute(last, began, wanted)
        answer = last.result()
        if isinstance(answer, Exposition):
            return Answer(200, wanted.content_type, answer.body(wanted))
        return answer

    def _compute(self, into: concurrent.futures.Future[Served], began: float, wanted: MetricFormat) -> None:
        try:
            answer = self._answer()
            if isinstance(answer, Exposition):
                answer.body(wanted)  # here, because its time counts
        except BaseException as error:
            into.set_exception(error)
            return
        now = time.monotonic()
        self._until = now + min(_REST * (now - began), _LONGEST_REST_SECONDS)
        into.set_result(answer)


def _not_found(routes: Routes) -> Answer:
    paths = [route for route in routes if "?" not in route]
    return Answer(404, "application/json", json.dumps({"error": f"there are {' and '.join(paths)}"}).encode())
