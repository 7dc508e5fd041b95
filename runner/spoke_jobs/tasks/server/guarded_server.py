"""A uvicorn server that accepts connections by itself, so that each one is counted before it costs anything.

uvicorn and asyncio count a connection only after its TLS handshake, and accept thousands in one pass of the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import uvicorn

from spoke_jobs.tasks.server.bounded_protocol import READ_BYTES, BoundedProtocol
from spoke_jobs.tasks.server.connection_phases import PHASE_SECONDS, Phase
from spoke_jobs.tasks.server.connection_table import ConnectionTable, Slot
from spoke_jobs.tasks.server.lean_tls import connect_accepted_tls
from spoke_jobs.tasks.server.loop_share import LoopShare, Work

_ACCEPTED_AT_ONCE = 64
"""The most connections that are accepted in one slice. It takes about 30 us each, and more if another one is closed."""
_SWEEP_TICKS = 10
"""uvicorn ticks ten times a second. Each tick checks one connection in ten. Checking 2,000 takes 6 ms in all."""
_UNACKNOWLEDGED_MS = 30_000
"""The kernel ends a connection whose peer acknowledges nothing, or reads nothing, for this long."""
_PAUSE_SECONDS = 0.2
"""How long nothing is accepted after an error, for example because there are no file descriptors."""
_OTHER_FILES = 256
"""File descriptors for everything but connections."""
_END_SECONDS = 1.0
_RESET = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)


class GuardedServer(uvicorn.Server):
    """Serves the connections of listening sockets within the limits of a table.

    :param share: bounds the time for connections without valid credentials.
    :param on_full: called when a connection is refused because all others are proven.
    :param tls: returns the context for a new connection; None for plain HTTP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        table: ConnectionTable,
        share: LoopShare,
        *,
        on_full: Callable[[], None] = lambda: None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        phase_seconds: Mapping[Phase, float] = PHASE_SECONDS,
    ) -> None:
        super().__init__(config)
        self._table = table
        self._share = share
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._on_full = on_full
        self._tls = tls
        self._phase_seconds = phase_seconds
        self._listening: list[socket.socket] = []
        self._numbers = itertools.count()
        self._accepted: dict[Slot, tuple[socket.socket, int]] = {}
        """Connections that wait for their turn to be opened, and the number of the work that opens them. They cost no
        more than their socket and that work."""
        self._opening: dict[asyncio.Task[None], Slot] = {}
        """Connections without a protocol yet: their TLS handshake has not ended."""

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn, which would take uvloop where that is installed."""
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self.serve(sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.

        :raises RuntimeError: on another event loop than asyncio's. uvloop passes what it has read to `data_received` of
            a protocol that has both ways to read. So it would ignore all limits of :class:`.BoundedProtocol`.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise RuntimeError(f"the task server needs asyncio's event loop, not {type(loop)}")  # noqa: TRY004
        await super().startup(sockets=[])
        for listening in sockets or []:
            listening.setblocking(False)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
            self._listening.append(listening)
            self._listen(listening)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        self._listening.clear()
        for slot in list(self._accepted):
            self._drop(slot)
            self._table.remove(slot)
        for slot in self._opening.values():
            slot.close()
        if self._opening:
            await asyncio.wait(self._opening, timeout=_END_SECONDS)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn."""
        now, part = asyncio.get_running_loop().time(), counter % _SWEEP_TICKS
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol) and connection.number % _SWEEP_TICKS == part:
                connection.close_if_overdue(now, self._phase_seconds)
        return await super().on_tick(counter)

    def _listen(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._is_readable, listening)

    def _is_readable(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listening.fileno())
        self._share.run_first(partial(self._accept, listening))

    def _accept(self, listening: socket.socket) -> None:
        """Accept some connections, and others in the next slice."""
        if listening not in self._listening:
            return
        try:
            for _ in range(_ACCEPTED_AT_ONCE):
                accepted, address = listening.accept()
                self._admit(accepted, str(address[0]).removeprefix("::ffff:"))
                if self._share.is_used_up():
                    break
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._listen(listening)
        except OSError as error:
            logger.error("a connection can't be accepted: %s", error.strerror)  # noqa: TRY400
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._listen, listening)
        else:
            self._share.run_first(partial(self._accept, listening))

    def _admit(self, accepted: socket.socket, peer: str) -> None:
        admission = self._table.open(peer)
        if admission.displaced is not None:
            admission.displaced.close()
        if admission.slot is None:
            if admission.refused == "full":
                self._on_full()
            _reset(accepted)
            return
        accepted.setblocking(False)
        number = self._share.run(peer, partial(self._begin, admission.slot))
        self._accepted[admission.slot] = accepted, number
        admission.slot.close = partial(self._drop, admission.slot)

    def _drop(self, slot: Slot) -> None:
        accepted, number = self._accepted.pop(slot)
        self._share.forget(slot.peer, number)
        _reset(accepted)

    def _begin(self, slot: Slot) -> None:
        accepted, _ = self._accepted.pop(slot)
        # asyncio sets it only for sockets that name their protocol. Without it, an acknowledgement waits 40 ms.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slot.close = partial(_end, accepted)
        opening = asyncio.ensure_future(self._open(accepted, slot))
        self._opening[opening] = slot
        opening.add_done_callback(self._opening.pop)

    async def _open(self, accepted: socket.socket, slot: Slot) -> None:
        protocol: BoundedProtocol | None = None

        def opened(transport: asyncio.Transport) -> None:
            slot.close = transport.abort

        def run(work: Work) -> Callable[[], None]:
            return partial(self._share.forget, slot.peer, self._share.run(slot.peer, work))

        def make() -> BoundedProtocol:
            nonlocal protocol
            protocol = BoundedProtocol(
                number=next(self._numbers),
                slot=slot,
                table=self._table,
                share=self._share,
                buffer=self._buffer,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            return protocol

        try:
            if self._tls is not None:
                seconds = self._phase_seconds[Phase.HEADERS]
                await connect_accepted_tls(make, accepted, self._tls(), run, seconds, opened)
            else:
                await asyncio.get_running_loop().connect_accepted_socket(make, accepted)
        except OSError as error:  # an ssl.SSLError is one
            self._table.closed["tls"] += self._table.remove(slot) and self._tls is not None
            logger.debug("no connection with %s: %s", slot.peer, error)
        except BaseException:
            self._table.remove(slot)
            raise


def _reset(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    accepted.close()


def _end(accepted: socket.socket) -> None:
    """End a connection that has no transport yet. asyncio then closes the socket.

    Neither cancel the opening nor close the socket here: the system may give the descriptor to a new connection, and
    asyncio's transport for the old one would then use it.
    """
    with suppress(OSError):  # it has ended already
        accepted.shutdown(socket.SHUT_RDWR)


def connections_that_fit(wanted: int) -> int:
    """Raise this process's limit on open files as needed. Return how many connections then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return wanted
    fitting = max(1, soft - _OTHER_FILES)
    logger.warning("only %d connections at a time, not %d: the limit on open files is %d", fitting, wanted, hard)
    return fitting
