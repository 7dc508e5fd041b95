"""uvicorn's HTTP protocol with limits that it lacks: on the time of each phase, and on unfinished requests.

A connection without valid credentials reads little at a time, and waits for its turn before what it has read is parsed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from spoke_jobs.tasks.server.connection_phases import ConnectionState, Phase, PhaseTimer
from spoke_jobs.tasks.server.connection_table import ConnectionTable, Slot
from spoke_jobs.tasks.server.loop_share import LoopShare

HEADERS_LIMIT_BYTES = 16_384
"""The most bytes of a request's headers that have not all arrived. uvicorn enforces it, see `serve`. Headers that end
within one read may be larger by that read."""
HEADERS_LIMIT = 100
"""The most headers of a request. 16 kB can have 3,900 tiny ones, which would take half a megabyte of memory."""
UNREAD_LIMIT_BYTES = 16_384
"""The most bytes of one connection that wait in memory, except bodies of POST."""
READ_BYTES = 262_144
"""The most bytes that a connection with valid credentials reads at once, as many as in asyncio."""
UNPROVEN_READ_BYTES = 4_096
"""The most bytes that another connection reads at once, and that are parsed in one turn. Tiny chunks of a body take the
most time, 10 ms."""
CONNECTION = "spoke_connection"
"""The key of this protocol in the state of an ASGI scope."""
_HEADERS_END = re.compile(rb"\n\r?\n")


class BoundedProtocol(H11Protocol, asyncio.BufferedProtocol):
    """One connection, with its place in the table. The application finds it in the scope's state.

    Only for an event loop that reads with `get_buffer`, as asyncio's. uvloop's calls `data_received`, past the limits.

    :param buffer: where all connections of the server read to, of :data:`READ_BYTES`.
    """

    def __init__(
        self,
        *,
        number: int,
        slot: Slot,
        table: ConnectionTable,
        share: LoopShare,
        buffer: memoryview,
        app_state: dict[str, Any],
        **given: Any,
    ) -> None:
        super().__init__(app_state={**app_state, CONNECTION: self}, **given)
        self.number = number
        self._slot = slot
        self._table = table
        self._share = share
        self._buffer = buffer
        self._proven = False
        self._unparsed = b""
        """What has been read and waits for its turn."""
        self._waits = False
        self._has_turn = False
        self._ends = False
        """Whether it waits for its turn to be closed."""
        self._answers = 0
        self._partial = False
        self._timer = PhaseTimer(self.loop.time())

    def prove(self) -> None:
        """Note that this connection's request has shown valid credentials."""
        self._table.prove(self._slot)
        self._proven = True
        if self._waits:
            self.loop.call_soon(self._take_turn)

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._slot.close = transport.abort

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio."""
        return self._buffer if self._proven else self._buffer[:UNPROVEN_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        data = bytes(self._buffer[:nbytes])
        # A probe's request is short and arrives in one piece.
        if self._slot.only_get and not data.startswith(b"GET "):
            self.transport.abort()
        elif self._proven and not self._waits:
            self._parse(data)
        else:
            self._unparsed += data
            self.flow.pause_reading()
            self._wait()

    def handle_events(self) -> None:
        """See uvicorn, which calls it after an answer as well, for the next of several requests that were sent."""
        if self._proven or self._has_turn:
            if self.conn.their_state is h11.IDLE and _has_many_headers(self.conn.trailing_data[0]):
                self.send_400_response(f"a request has over {HEADERS_LIMIT} headers")
            else:
                super().handle_events()
        else:
            self._wait()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._share.run(self._slot.peer, self._take_turn)

    def _take_turn(self) -> None:
        if not self._waits:  # it took its turn when it was proven
            return
        self._waits = False
        data, self._unparsed = self._unparsed, b""
        if self.transport.is_closing():
            return
        self._has_turn = True
        try:
            if data:
                self.flow.resume_reading()
                self._parse(data)
            else:
                self.handle_events()
        finally:
            self._has_turn = False

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        state = self.conn.their_state
        self._partial = state is h11.IDLE
        if self._is_hoarding(state):
            self._table.closed["unread"] += 1
            self.transport.abort()

    def on_response_complete(self) -> None:
        """See uvicorn. Close if the request has not ended: its sender may never send the rest."""
        self._answers += 1
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._partial = bool(self.conn.trailing_data[0])

    def send_400_response(self, msg: str) -> None:
        """See uvicorn, which does not expect that an answer may have begun, or that the application still answers."""
        if self._answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._table.remove(self._slot)

    def close_if_overdue(self, now: float, limits: Mapping[Phase, float]) -> None:
        """Close the connection if its phase takes too long."""
        if self._waits:  # for us: its sender may have sent all that it should
            return
        conn = self.conn
        state = ConnectionState(
            closing=self.transport.is_closing(),
            write_blocked=self.flow.write_paused,
            body_open=conn.their_state is h11.SEND_BODY,
            answering=self._answering(),
            partial=self._partial,
            answers=self._answers,
        )
        phase = None if self._ends else self._timer.overdue(state, now, limits)
        if phase is None:
            return
        if self._proven:
            self._end(phase)
        else:  # there may be many that are overdue at the same time
            self._ends = True
            self._share.run(self._slot.peer, partial(self._end, phase))

    def _end(self, phase: Phase) -> None:
        self._table.closed[phase.value] += 1
        if phase in (Phase.WRITE, Phase.CLOSE):
            self.transport.abort()
        else:
            self._ends = False  # it may not read the rest of its answer
            self.transport.close()

    def _is_hoarding(self, state: Any) -> bool:
        """Return whether much has arrived that is not read now: bodies of GET, and requests before the last answer."""
        if state is h11.SEND_BODY:
            return len(self.cycle.body) > UNREAD_LIMIT_BYTES and self.scope["method"] != "POST"
        return state is h11.DONE and len(self.conn.trailing_data[0]) > UNREAD_LIMIT_BYTES

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn has None here before the first request
        return cycle is not None and not cycle.response_complete


def _has_many_headers(received: bytes) -> bool:
    """Return whether a request that is about to be parsed has more than the limit."""
    end = _HEADERS_END.search(received)
    return received.count(b"\n", 0, end.start() if end else len(received)) > HEADERS_LIMIT
