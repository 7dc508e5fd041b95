"""The task deployment's ASGI application: takes batches of tasks, and streams an acknowledgement as each task ends.

It speaks ASGI itself: what a framework adds to a request costs more than a task does.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.contract.probe_server import Answer
from spoke_jobs.tasks.protocol.encoding import BadRequest, acknowledgement_line, parse_batch
from spoke_jobs.tasks.protocol.messages import (
    BODY_LIMIT_BYTES,
    NDJSON,
    PATH,
    Acknowledgement,
    Malformed,
    Task,
    TaskOutcome,
)
from spoke_jobs.tasks.server.auth import CallerCheck
from spoke_jobs.tasks.server.executor import TaskExecutor

SIGN_OF_LIFE_SECONDS = 5.0
"""How often an answer with nothing to say says that it is alive."""
BODY_SECONDS = 30.0
"""How long a sender may take over a body."""
READING_LIMIT_BYTES = 16 * BODY_LIMIT_BYTES
"""Of all bodies that are being received: senders in any number take no more memory than that."""
_LATER = {"retry-after": "1"}
_ACCEPTED_AT_A_TIME = 100
_TEXT = "text/plain; charset=utf-8"

_REFUSALS = (
    *((401, reason) for reason in ("none", "scheme", "key", "form", "token", "audience")),
    *((403, "account"), (429, "full"), (429, "bodies"), (503, "stopping"), (503, "review")),
    *((status, "form") for status in (400, 408, 413, 415)),
)
"""Counted from nought: of a count that begins with its first one an alarm sees no increase."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Metrics = Callable[[], Awaitable[Answer]]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Intake:
    """Whether tasks are let in, and who was turned away."""

    draining: bool = False
    reading_bytes: int = 0
    """What the bodies may take that are being received."""
    requests: int = 0
    """Requests with tasks, answered with 200."""
    refused: Counter[tuple[int, str]] = field(default_factory=lambda: Counter(dict.fromkeys(_REFUSALS, 0)))
    """By status and reason."""


class ClientGone(Exception):
    """Whoever sent the request isn't there any more."""


class _Answer:
    """The acknowledgements of one request, in the order in which its tasks end."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._lines: deque[bytes] = deque()
        self._something = asyncio.Event()

    def add(self, ack: Acknowledgement) -> None:
        self._lines.append(acknowledgement_line(ack))
        self._something.set()

    async def stream(self) -> AsyncIterator[bytes]:
        while self._left:
            if not self._lines:
                try:
                    async with asyncio.timeout(SIGN_OF_LIFE_SECONDS):
                        await self._something.wait()
                except TimeoutError:
                    yield b"\n"
                    continue
            self._something.clear()
            self._left -= len(self._lines)
            chunk = b"".join(self._lines)
            self._lines.clear()
            yield chunk


@dataclass(frozen=True, slots=True)
class _Request:
    """What of a request is looked at."""

    headers: Mapping[bytes, bytes]
    peer: str
    receive: Receive
    send: Send

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self) -> AsyncIterator[bytes]:
        """:raises ClientGone: if it doesn't come to its end."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    async def answer(self, status: int, text: str, content_type: str = _TEXT, **headers: str) -> None:
        """A whole answer."""
        body = text.encode()
        await self.start(status, {"content-type": content_type, "content-length": str(len(body)), **headers})
        await self.send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer."""
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})


class TaskApp:
    """The application; the engine starts with its lifespan.

    :param on_start: called on the server's loop, once the engine runs.
    """

    def __init__(
        self,
        engine: TaskExecutor,
        callers: CallerCheck,
        gate: Intake,
        metrics: Metrics,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._callers = callers
        self._gate = gate
        self._metrics = metrics
        self._on_start = on_start
        self._pages = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._show_metrics,
            "/openapi.json": self._openapi,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        peer = scope["client"][0].removeprefix("::ffff:") if scope.get("client") else "?"
        request = _Request(dict(scope["headers"]), peer, receive, send)
        path, method = scope["path"], scope["method"]
        page = self._pages.get(path)
        if path == PATH and method == "POST":
            try:
                await self._receive(request)
            except ClientGone:
                logger.debug("the sender %s is gone", peer)
        elif page is not None and method in ("GET", "HEAD"):
            await page(request)
        elif path == PATH or page is not None:
            allow = "POST" if path == PATH else "GET, HEAD"
            await self._refuse(request, 405, "method", f"{path} answers {allow}", {"allow": allow})
        else:
            await self._refuse(request, 404, "path", f"there is {PATH}; see /openapi.json")

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._engine.start()
                self._on_start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _receive(self, request: _Request) -> None:
        size = _declared_size(request)
        if await self._turned_away(request, size):
            return
        self._gate.reading_bytes += size
        body: bytes | None = None
        try:
            body = await _body(request)
            entries = parse_batch(request.header(b"content-type"), body)
        except BadRequest as error:
            await self._refuse(request, error.status, "form", error.reason, read=body is not None)
            return
        finally:
            self._gate.reading_bytes -= size
        if _full(self._engine, entries):
            await self._refuse(request, 429, "full", "the queue is full", _LATER, read=True)
            return
        self._gate.requests += 1
        answer = _Answer(len(entries))
        # The head first: by it the sender knows who had its tasks, should one of them end this process at once.
        await request.start(200, {"content-type": NDJSON})
        await _accept(self._engine, entries, answer)
        async for chunk in answer.stream():
            await request.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await request.send({"type": "http.response.body", "body": b""})

    async def _turned_away(self, request: _Request, size: int) -> bool:
        """Answer a request whose body isn't to be looked at; whether it was one."""
        gate = self._gate
        refusal = await self._callers.refusal(request.header(b"authorization") or None)
        if refusal is not None:
            logger.warning("%d to %s: %s", refusal.status, request.peer, refusal.text)
            headers = {401: {"www-authenticate": "Bearer"}, 503: _LATER}.get(refusal.status, {})
            await self._refuse(request, refusal.status, refusal.reason, refusal.text, headers)
        elif gate.draining:
            await self._refuse(request, 503, "stopping", "this replica is stopping", _LATER)
        elif gate.reading_bytes + size > READING_LIMIT_BYTES:
            await self._refuse(request, 429, "bodies", "too many bodies are on their way", _LATER)
        else:
            return False
        return True

    async def _refuse(
        self,
        request: _Request,
        status: int,
        reason: str,
        text: str,
        headers: Mapping[str, str] | None = None,
        *,
        read: bool = False,
    ) -> None:
        """A refusal that the sender gets to read: an answer before the body's end would often be a broken pipe to it.

        :param read: whether the body was read to its end before.
        """
        self._gate.refused[status, reason] += 1
        more = dict(headers or {})
        if not read:
            await _drain(request)
            more["connection"] = "close"
        await request.answer(status, f"{text}\n", **more)

    async def _healthz(self, request: _Request) -> None:
        await request.answer(200, "alive\n")

    async def _readyz(self, request: _Request) -> None:
        if self._gate.draining:
            await request.answer(503, "stopping\n")
        else:
            await request.answer(200, "ready\n")

    async def _show_metrics(self, request: _Request) -> None:
        metrics = await self._metrics()
        await request.answer(metrics.status, metrics.body.decode(), metrics.content_type)

    async def _openapi(self, request: _Request) -> None:
        await request.answer(200, _document(), "application/json")


@lru_cache(1)
def _document() -> str:
    from spoke_jobs.tasks.server.openapi import document

    return json.dumps(document(), indent=2) + "\n"


def _full(engine: TaskExecutor, entries: list[Task | Malformed]) -> bool:
    """Whether there is room for none of the batch's tasks."""
    return engine.room == 0 and not any(isinstance(entry, Task) and engine.knows(entry) for entry in entries)


async def _accept(engine: TaskExecutor, entries: list[Task | Malformed], answer: _Answer) -> None:
    """Let in what there is room for, and hand back the rest of the batch."""
    for position, entry in enumerate(entries):
        if isinstance(entry, Malformed):
            engine.counts.refused[TaskCause.MALFORMED_TASK] += 1
            logger.error("task %s of a batch failed for good: it %s", entry.id or entry.position, entry.reason)
            detail = f"entry {entry.position} {entry.reason}"
            answer.add(Acknowledgement(entry.id, TaskOutcome.FAILED_FOR_GOOD, TaskCause.MALFORMED_TASK, detail))
        elif engine.room or engine.knows(entry):
            engine.accept(entry, answer.add)
        else:
            answer.add(Acknowledgement(entry.id, TaskOutcome.RETURNED, TaskCause.FULL))
        if position % _ACCEPTED_AT_A_TIME == _ACCEPTED_AT_A_TIME - 1:
            await asyncio.sleep(0)  # a long batch lets other requests, and the health check, have their turn


def _declared_size(request: _Request) -> int:
    """The most that the request's body can take."""
    try:
        return min(max(int(request.headers[b"content-length"]), 0), BODY_LIMIT_BYTES)
    except (KeyError, ValueError):
        return BODY_LIMIT_BYTES


async def _body(request: _Request) -> bytes:
    """The request's body, bounded in size and time.

    :raises BadRequest: beyond either bound.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.body():
                size += len(part)
                if size > BODY_LIMIT_BYTES:
                    raise BadRequest(413, f"the body is over {BODY_LIMIT_BYTES:,} bytes: send fewer tasks at a time")
                parts.append(part)
    except TimeoutError:
        raise BadRequest(408, f"the body took over {BODY_SECONDS:.0f} seconds") from None
    return b"".join(parts)


async def _drain(request: _Request) -> None:
    """Read what is left of a body, within bounds."""
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS / 6):
            async for part in request.body():
                size += len(part)
                if size > BODY_LIMIT_BYTES:
                    break
    except (TimeoutError, ClientGone):
        pass
