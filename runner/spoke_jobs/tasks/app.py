"""The task deployment's ASGI application: takes batches of tasks, and streams an acknowledgement as each task ends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from spoke_jobs.tasks.callers import CallerCheck
from spoke_jobs.tasks.engine import Engine
from spoke_jobs.tasks.wire import (
    BODY_LIMIT_BYTES,
    NDJSON,
    PATH,
    Acknowledgement,
    BadRequest,
    Malformed,
    Outcome,
    Task,
    TaskCause,
    acknowledgement_line,
    parse_batch,
)

SIGN_OF_LIFE_SECONDS = 5.0
"""How often an answer with nothing to say says that it is alive."""
BODY_SECONDS = 30.0
"""How long a sender may take over a body."""
READING_LIMIT_BYTES = 16 * BODY_LIMIT_BYTES
"""Of all bodies that are being received: senders in any number take no more memory than that."""
_LATER = {"Retry-After": "1"}
_ACCEPTED_AT_A_TIME = 100

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Gate:
    """Whether tasks are let in, and who was turned away."""

    draining: bool = False
    reading_bytes: int = 0
    """What the bodies may take that are being received."""
    refused_callers: int = 0
    refused_full: int = 0
    refused_draining: int = 0
    bad_requests: int = 0


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


def create_app(engine: Engine, callers: CallerCheck, gate: Gate) -> Starlette:
    """The application; the engine starts with its lifespan."""
    endpoints = _Endpoints(engine, callers, gate)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        engine.start()
        yield

    return Starlette(
        routes=[
            Route(PATH, endpoints.receive, methods=["POST"]),
            Route("/healthz", endpoints.healthz),
            Route("/readyz", endpoints.readyz),
            Route("/metrics", endpoints.metrics),
        ],
        lifespan=lifespan,
    )


class _Endpoints:
    def __init__(self, engine: Engine, callers: CallerCheck, gate: Gate) -> None:
        self._engine = engine
        self._callers = callers
        self._gate = gate

    async def receive(self, request: Request) -> Response:
        size = _declared_size(request)
        turned_away = await self._turned_away(request, size)
        if turned_away is not None:
            return turned_away
        self._gate.reading_bytes += size
        try:
            entries = parse_batch(request.headers.get("content-type", ""), await _body(request))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except BadRequest as error:
            self._gate.bad_requests += 1
            return await _refused(request, error.status, error.reason, {})
        finally:
            self._gate.reading_bytes -= size
        if _full(self._engine, entries):
            self._gate.refused_full += 1
            return PlainTextResponse("the queue is full\n", 429, headers=_LATER)
        answer = _Answer(len(entries))
        await _accept(self._engine, entries, answer)
        return StreamingResponse(answer.stream(), media_type=NDJSON)

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(self, _request: Request) -> Response:
        if self._gate.draining:
            return PlainTextResponse("stopping\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, _request: Request) -> Response:
        return PlainTextResponse(_metrics(self._engine, self._gate), media_type="text/plain; version=0.0.4")

    async def _turned_away(self, request: Request, size: int) -> Response | None:
        """The answer to a request whose body isn't to be looked at; None if it is."""
        gate = self._gate
        refusal = await self._callers.refusal(request.headers.get("authorization"))
        if refusal is not None:
            gate.refused_callers += 1
            peer = request.client.host if request.client else "?"
            logger.warning("401 to %s (%d refused so far): %s", peer, gate.refused_callers, refusal)
            return await _refused(request, 401, refusal, {"WWW-Authenticate": "Bearer"})
        if gate.draining:
            gate.refused_draining += 1
            return await _refused(request, 503, "this replica is stopping", _LATER)
        if gate.reading_bytes + size > READING_LIMIT_BYTES:
            gate.refused_full += 1
            return await _refused(request, 429, "too many bodies are on their way", _LATER)
        return None


def _full(engine: Engine, entries: list[Task | Malformed]) -> bool:
    """Whether there is room for none of the batch's tasks."""
    return engine.room == 0 and not any(isinstance(entry, Task) and engine.knows(entry) for entry in entries)


async def _accept(engine: Engine, entries: list[Task | Malformed], answer: _Answer) -> None:
    """Let in what there is room for, and hand back the rest of the batch."""
    for position, entry in enumerate(entries):
        if isinstance(entry, Malformed):
            logger.error("task %s of a batch failed for good: it %s", entry.id or entry.position, entry.reason)
            detail = f"entry {entry.position} {entry.reason}"
            answer.add(Acknowledgement(entry.id, Outcome.FAILED_FOR_GOOD, TaskCause.MALFORMED_TASK, detail))
        elif engine.room or engine.knows(entry):
            engine.accept(entry, answer.add)
        else:
            answer.add(Acknowledgement(entry.id, Outcome.RETURNED, TaskCause.FULL))
        if position % _ACCEPTED_AT_A_TIME == _ACCEPTED_AT_A_TIME - 1:
            await asyncio.sleep(0)  # a long batch lets other requests, and the health check, have their turn


def _declared_size(request: Request) -> int:
    """The most that the request's body can take."""
    try:
        return min(max(int(request.headers["content-length"]), 0), BODY_LIMIT_BYTES)
    except (KeyError, ValueError):
        return BODY_LIMIT_BYTES


async def _body(request: Request) -> bytes:
    """The request's body, bounded in size and time.

    :raises BadRequest: beyond either bound.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT_BYTES:
                    raise BadRequest(413, f"the body is over {BODY_LIMIT_BYTES:,} bytes: send fewer tasks at a time")
                parts.append(part)
    except TimeoutError:
        raise BadRequest(408, f"the body took over {BODY_SECONDS:.0f} seconds") from None
    return b"".join(parts)


async def _refused(request: Request, status: int, reason: str, headers: dict[str, str]) -> Response:
    """A refusal that the sender gets to read: an answer before the body's end would often reach it as a broken pipe."""
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS / 6):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT_BYTES:
                    break
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: the body was read to its end before
        pass
    return PlainTextResponse(f"{reason}\n", status, headers={**headers, "Connection": "close"})


def _metrics(engine: Engine, gate: Gate) -> str:
    """The counters in Prometheus's text format."""
    counts = engine.counts
    lines = [
        f"spoke_tasks_unfinished {engine.unfinished}",
        f"spoke_tasks_accepted_total {counts.accepted}",
        f"spoke_tasks_joined_total {counts.joined}",
        f"spoke_tasks_recalled_total {counts.recalled}",
        f"spoke_tasks_refused_total {counts.refused}",
        *(f'spoke_tasks_ended_total{{outcome="{outcome}"}} {count}' for outcome, count in counts.ended.items()),
        f'spoke_tasks_requests_refused_total{{status="401"}} {gate.refused_callers}',
        f'spoke_tasks_requests_refused_total{{status="429"}} {gate.refused_full}',
        f'spoke_tasks_requests_refused_total{{status="503"}} {gate.refused_draining}',
        f'spoke_tasks_requests_refused_total{{status="4xx"}} {gate.bad_requests}',
    ]
    return "\n".join(lines) + "\n"
