"""TLS whose connections take little memory.

asyncio gives each TLS connection a buffer of 256 KiB, goes on reading up to 256 KiB while the application has paused,
and lets the application write 512 KiB that the peer does not read. So 700 connections without credentials would take
half a GiB. No setting changes this. :mod:`asyncio.sslproto` is not documented: a test of the memory notices if another
release of Python has other internals (`tests/integration/tasks/server/test_limits.py`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any

_READ_BYTES = 16_384
_WAITING_BYTES = 32_768
"""The most encrypted bytes that wait while the application has paused. More than a TLS record, which has at most
16,640."""
_UNWRITTEN_BYTES = 16_384
"""Encrypted bytes that the peer has not read, from which on the application's writes wait. This applies twice: before
and in the transport."""
_HANDSHAKE_BYTES = 4_096
"""The most bytes of a handshake that are read at once, and wait for their turn. Those of a usual client have less."""
_HELLO_BYTES = 16_384
"""The longest ClientHello. OpenSSL allows 131,396 bytes, and takes that memory as soon as a client announces it. Usual
ones have less than 2,000."""
_HELLO_HEADER_BYTES = 9
"""Of the first record and its first message."""
_buffer = bytearray(_READ_BYTES)
"""Where all connections read to. asyncio copies from it before it reads again."""

Run = Callable[[Callable[[], None]], Callable[[], None]]
"""Calls a function when it is the connection's turn. Returns what makes it forget the function."""


class LeanTlsProtocol(sslproto.SSLProtocol):
    """The TLS layer of one connection to the server.

    Handshakes are what costs the server most of all that strangers can send: about 1 ms of processor time, and ten
    times that with some keys. Many of them may arrive within one pass of the event loop. So each part of a handshake
    waits for its turn, and nothing more is read meanwhile.
    """

    max_size = _READ_BYTES

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        secured: asyncio.Future[None],
        run: Run,
        seconds: float,
    ) -> None:
        timeouts: Any = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": seconds}  # typeshed wants an int
        super().__init__(loop, protocol, context, secured, server_side=True, **timeouts)
        self._secured = secured
        self._run = run
        self._hello = b""
        self._waiting = b""
        """Encrypted bytes of the handshake that wait for their turn."""
        self._forget: Callable[[], None] = lambda: None
        self._ssl_buffer = _buffer
        self._ssl_buffer_view = memoryview(_buffer)
        self._set_read_buffer_limits(_WAITING_BYTES)  # type: ignore[attr-defined]
        self._set_write_buffer_limits(_UNWRITTEN_BYTES)  # type: ignore[attr-defined]

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        transport.set_write_buffer_limits(_UNWRITTEN_BYTES)
        self._reading: asyncio.Transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio, which takes a handshake that we abort for one that has succeeded."""
        self._forget()
        if exc is None and not self._secured.done():
            exc = ConnectionAbortedError("the connection ended before its handshake did")
        super().connection_lost(exc)

    def get_buffer(self, n: int) -> memoryview:
        """See asyncio."""
        return self._ssl_buffer_view if self._secured.done() else self._ssl_buffer_view[:_HANDSHAKE_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        if self._secured.done():
            super().buffer_updated(nbytes)
            return
        if (missing := _HELLO_HEADER_BYTES - len(self._hello)) > 0:
            self._hello += bytes(self._ssl_buffer_view[: min(nbytes, missing)])
            if nbytes >= missing and not _is_usual(self._hello):
                self._fatal_error(ConnectionAbortedError("the ClientHello is too long"))
                return
        self._reading.pause_reading()
        self._waiting = bytes(self._ssl_buffer_view[:nbytes])
        self._forget = self._run(self._go_on)

    def _go_on(self) -> None:
        """Do the next part of the handshake."""
        if self._reading.is_closing():
            return
        self._reading.resume_reading()
        waiting, self._waiting = self._waiting, b""
        self._ssl_buffer_view[: len(waiting)] = waiting
        super().buffer_updated(len(waiting))


def _is_usual(hello: bytes) -> bool:
    """Return whether a ClientHello begins with its whole header, and has a usual length."""
    return int.from_bytes(hello[3:5]) >= _HELLO_HEADER_BYTES - 5 and int.from_bytes(hello[6:9]) <= _HELLO_BYTES


async def connect_accepted_tls(
    make: Callable[[], asyncio.BaseProtocol],
    accepted: socket.socket,
    context: ssl.SSLContext,
    run: Run,
    seconds: float,
    opened: Callable[[asyncio.Transport], object] = lambda transport: None,
) -> None:
    """Do a TLS handshake on an accepted socket, and connect it to a protocol.

    :param run: gives the connection a turn for each part of the handshake.
    :param seconds: for the handshake, and later for the end of the connection.
    :param opened: called with the transport when it reads. To close the connection before the handshake's end, abort
        it: while its handshake waits for a turn, it notices nothing that happens to its socket.
    :raises OSError: if the handshake fails.
    """
    loop = asyncio.get_running_loop()
    secured = loop.create_future()
    tls = LeanTlsProtocol(loop, make(), context, secured, run, seconds)
    transport, _ = await loop.connect_accepted_socket(lambda: tls, accepted)
    opened(transport)
    try:
        await secured
    except BaseException:
        transport.abort()
        raise
