"""The task server's HTTP interface: accept batches of tasks, and stream an acknowledgement as each task ends.

An ASGI application with Starlette's requests and responses, but without its router and its application class. For a
request with one task these would take 8 % and 40 % more processor time (docs/architecture/tasks.md).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.shared.metric_exposition import Exposition, MetricFormat, wanted_format
from spoke_jobs.tasks.protocol.messages import (
    BODY_LIMIT_BYTES,
    JSON,
    NDJSON,
    PATH,
    Acknowledgement,
    BadRequest,
    Malformed,
    Task,
    TaskOutcome,
    acknowledgement_line,
    parse_batch,
)
from spoke_jobs.tasks.server.auth import CallerCheck
from spoke_jobs.tasks.server.bounded_protocol import CONNECTION
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.log_throttle import LogThrottle
from spoke_jobs.tasks.server.loop_share import LoopShare

EMPTY_LINE_SECONDS = 5.0
"""How often an empty line is sent while there is no acknowledgement to send. It shows that the server is alive."""
BODY_SECONDS = 30.0
"""How long a sender may take to send a body."""
BODIES_LIMIT_BYTES = 16 * BODY_LIMIT_BYTES
"""The most memory for the bodies that are being received, from all senders together."""
_RETRY_LATER = {"retry-after": "1"}
_ACCEPTED_AT_A_TIME = 100
_DISCARDED_BYTES = 1_048_576
"""How much of a refused request's body is read. A dispatcher sends less."""
UNREADY_AFTER_SECONDS = 10.0
"""For how long requests must have been turned away, with none accepted."""
QUIET_SECONDS = 30.0
"""A replica is ready again when it has turned nobody away for this long."""

_REFUSALS = (
    *((401, reason) for reason in ("none", "scheme", "key", "form", "token", "audience")),
    *((403, "account"), (429, "full"), (429, "bodies"), (503, "stopping"), (503, "review"), (503, "busy")),
    *((status, "form") for status in (400, 408, 413, 415)),
)
"""Status and reason of each refusal. Their counts start at 0, so that `increase()` sees the first of each."""

Metrics = Callable[[], Awaitable[Exposition]]

logger = logging.getLogger(__name__)
_refusals = logging.getLogger(f"{__name__}.refusals")
_refusals.addFilter(LogThrottle())


class Readiness:
    """Notes the requests that are accepted, and those that are turned away although they may be good.

    Requests with invalid credentials, or with unknown tokens beyond the limit, do not count. Otherwise anybody could
    make a replica unready.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0
        self._why = ""

    def accepted(self) -> None:
        """Note a request with tasks that was accepted."""
        self._since = None

    def turned_away(self, why: str) -> None:
        """Note a request, or a connection, for which there was no room or no review."""
        now = self._clock()
        if self._since is None or now - self._last > QUIET_SECONDS:
            self._since = now
        self._last = now
        self._why = why

    def problem(self) -> str | None:
        """Return why no request gets through; None if requests do, or if nobody has tried."""
        if self._since is None or self._clock() - self._last > QUIET_SECONDS:
            return None
        seconds = self._last - self._since
        if seconds < UNREADY_AFTER_SECONDS:
            return None
        return f"no request was accepted for {seconds:.0f} s: {self._why}"


@dataclass(slots=True)
class Intake:
    """Whether requests with tasks are accepted, and counts of those accepted and refused."""

    draining: bool = False
    receiving_bytes: int = 0
    """The most memory that the bodies being received can take."""
    requests: int = 0
    """Requests with tasks, answered with 200."""
    refused: Counter[tuple[int, str]] = field(default_factory=lambda: Counter(dict.fromkeys(_REFUSALS, 0)))
    """By status and reason."""
    readiness: Readiness = field(default_factory=Readiness)


class AcknowledgementStream:
    """The acknowledgements of one request, in the order in which its tasks end.

    :param expected: the number of acknowledgements.
    """

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._lines: deque[bytes] = deque()
        self._added = asyncio.Event()

    def add(self, ack: Acknowledgement) -> None:
        """Queue an acknowledgement to be sent."""
        self._lines.append(acknowledgement_line(ack))
        self._added.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield acknowledgements as they come, until all are sent."""
        while self._left:
            if not self._lines:
                try:
                    async with asyncio.timeout(EMPTY_LINE_SECONDS):
                        await self._added.wait()
                except TimeoutError:
                    yield b"\n"
                    continue
            self._added.clear()
            self._left -= len(self._lines)
            chunk = b"".join(self._lines)
            self._lines.clear()
            yield chunk


class TaskApp:
    """The ASGI application. It starts the executor at the start of its lifespan.

    :param on_start: called on the server's loop, once the executor runs.
    :param share: bounds the time for probes, scrapes and refusals.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        callers: CallerCheck,
        intake: Intake,
        metrics: Metrics,
        on_start: Callable[[], None] = lambda: None,
        share: LoopShare | None = None,
    ) -> None:
        self._executor = executor
        self._callers = callers
        self._intake = intake
        self._metrics = metrics
        self._on_start = on_start
        self._share = share or LoopShare()
        self._rendering: dict[MetricFormat, asyncio.Future[bytes]] = {}
        self._pages: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
            "/openapi.json": self._openapi,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        request = Request(scope, receive)
        path, method = scope["path"], scope["method"]
        page = self._pages.get(path)
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # Two lengths for one body: a proxy may take the other one (RFC 9112, section 6.1).
            text = "a request has Content-Length or Transfer-Encoding, not both"
            await self._refuse(request, send, 400, "form", text)
        elif path == PATH and method == "POST":
            try:
                await self._take_batch(request, send)
            except ClientDisconnect:
                logger.debug("the sender %s has disconnected", _peer(request))
        elif page is not None and method in ("GET", "HEAD"):
            await self._share.take(_peer(request))
            await (await page(request))(scope, receive, send)
        elif path == PATH or page is not None:
            allow = "POST" if path == PATH else "GET, HEAD"
            await self._refuse(request, send, 405, "method", f"{path} answers {allow} only", {"allow": allow})
        else:
            await self._refuse(request, send, 404, "path", f"no such path: post tasks to {PATH}; see /openapi.json")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._executor.start()
                self._on_start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _take_batch(self, request: Request, send: Send) -> None:
        """Answer a request with tasks."""
        size = _declared_size(request)
        if await self._refused_unread(request, send, size):
            return
        self._intake.receiving_bytes += size
        body: bytes | None = None
        try:
            body = await _body(request, size)
            entries = parse_batch(request.headers.get("content-type", ""), body)
        except BadRequest as error:
            await self._refuse(request, send, error.status, "form", error.reason, body_read=body is not None)
            return
        finally:
            self._intake.receiving_bytes -= size
        if _is_full(self._executor, entries):
            await self._refuse(request, send, 429, "full", "the queue is full", _RETRY_LATER, body_read=True)
            return
        self._intake.requests += 1
        self._intake.readiness.accepted()
        stream = AcknowledgementStream(len(entries))
        # Send the status first. If a task then ends this process, the sender knows that this replica had its tasks.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON.encode())]})
        await _accept(self._executor, entries, stream)
        async for chunk in stream.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _refused_unread(self, request: Request, send: Send, size: int) -> bool:
        """Refuse a request before its body is read. Return False if it is not refused."""
        intake = self._intake
        refusal = await self._callers.refusal(request.headers.get("authorization"), _peer(request))
        if refusal is not None:
            _refusals.warning("%d to %s: %s", refusal.status, _peer(request), refusal.text)
            if refusal.reason == "review":  # not "busy": anybody can make unknown tokens wait
                intake.readiness.turned_away("the API server does not review the senders' tokens")
            headers = {401: {"www-authenticate": "Bearer"}, 503: _RETRY_LATER}.get(refusal.status, {})
            await self._refuse(request, send, refusal.status, refusal.reason, refusal.text, headers)
        elif intake.draining:
            await self._refuse(request, send, 503, "stopping", "this replica is stopping", _RETRY_LATER)
        elif intake.receiving_bytes + size > BODIES_LIMIT_BYTES:
            intake.readiness.turned_away("bodies that are slow to arrive take all the memory for bodies")
            await self._refuse(request, send, 429, "bodies", "too many bodies are being received", _RETRY_LATER)
        else:
            connection = request.scope.get("state", {}).get(CONNECTION)
            if connection is not None:
                connection.prove()
            return False
        return True

    async def _refuse(
        self,
        request: Request,
        send: Send,
        status: int,
        reason: str,
        text: str,
        headers: Mapping[str, str] | None = None,
        *,
        body_read: bool = False,
    ) -> None:
        """Answer with an error. Read the body first, or a sender that is still writing would often see a broken pipe.

        :param reason: the metric's label.
        """
        self._intake.refused[status, reason] += 1
        more = dict(headers or {})
        if not body_read:
            await _discard_body(request)
            more["connection"] = "close"
        await self._share.take(_peer(request))
        await PlainTextResponse(f"{text}\n", status, more)(request.scope, request.receive, send)

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, _request: Request) -> Response:
        problem = "stopping" if self._intake.draining else self._intake.readiness.problem()
        if problem is None:
            return PlainTextResponse("ready\n")
        _refusals.warning("not ready: %s", problem)
        return PlainTextResponse(f"{problem}\n", 503)

    async def _show_metrics(self, request: Request) -> Response:
        wanted = wanted_format(request.headers.get("accept", ""))
        if wanted not in self._rendering:  # scrapes that wait at the same time share one
            self._rendering[wanted] = asyncio.ensure_future(self._render_metrics(wanted))
        body = await asyncio.shield(self._rendering[wanted])
        return Response(body, media_type=wanted.content_type)

    async def _render_metrics(self, wanted: MetricFormat) -> bytes:
        await self._share.take("scrapes")
        del self._rendering[wanted]
        return (await self._metrics()).body(wanted)

    async def _openapi(self, _request: Request) -> Response:
        return Response(_document(), media_type=JSON)


@lru_cache(1)
def _document() -> str:
    from spoke_jobs.tasks.server.openapi import document

    return json.dumps(document(), indent=2) + "\n"


def _is_full(executor: TaskExecutor, entries: list[Task | Malformed]) -> bool:
    """Return whether no task of the batch can be accepted."""
    return executor.room == 0 and not any(isinstance(entry, Task) and executor.knows(entry) for entry in entries)


async def _accept(executor: TaskExecutor, entries: list[Task | Malformed], stream: AcknowledgementStream) -> None:
    """Accept tasks while there is room, and return the rest of the batch."""
    for position, entry in enumerate(entries):
        if isinstance(entry, Malformed):
            executor.counts.refused[TaskCause.MALFORMED_TASK] += 1
            logger.error("task %s of a batch failed for good: it %s", entry.id or entry.position, entry.reason)
            detail = f"entry {entry.position} {entry.reason}"
            stream.add(Acknowledgement(entry.id, TaskOutcome.FAILED_FOR_GOOD, TaskCause.MALFORMED_TASK, detail))
        elif executor.room or executor.knows(entry):
            executor.accept(entry, stream.add)
        else:
            stream.add(Acknowledgement(entry.id, TaskOutcome.RETURNED, TaskCause.FULL))
        if position % _ACCEPTED_AT_A_TIME == _ACCEPTED_AT_A_TIME - 1:
            await asyncio.sleep(0)  # serve other requests and probes during a long batch


def _peer(request: Request) -> str:
    return request.client.host.removeprefix("::ffff:") if request.client is not None else "?"


def _declared_size(request: Request) -> int:
    """Return the largest size in bytes that the request's body can have."""
    try:
        return min(max(int(request.headers["content-length"]), 0), BODY_LIMIT_BYTES)
    except (KeyError, ValueError):
        return BODY_LIMIT_BYTES


async def _body(request: Request, limit: int) -> bytes:
    """Read the request's body, up to the size that was declared.

    :raises BadRequest: if it is too large, or takes too long.
    :raises ClientDisconnect: if the sender disconnects before the body's end.
    """
    body = bytearray()  # not a list: each of many small parts would take more than its size
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                if len(body) + len(part) > limit:
                    raise BadRequest(413, f"the body is over {limit:,} bytes: send fewer tasks at a time")
                body += part
    except TimeoutError:
        raise BadRequest(408, f"the body took over {BODY_SECONDS:.0f} seconds") from None
    return bytes(body)


async def _discard_body(request: Request) -> None:
    """Read the rest of a body, up to a limit of size and time."""
    if request.headers.get("expect", "").lower() == "100-continue":  # its sender waits for our answer
        return
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS / 6):
            async for part in request.stream():
                size += len(part)
                if size > _DISCARDED_BYTES:
                    break
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it was read to its end before
        pass
