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
import time
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
_HELLO_BYTES = 16_384
"""The longest ClientHello. OpenSSL allows 131,396 bytes, and takes that memory as soon as a client announces it. Usual
ones have less than 2,000."""
_HELLO_HEADER_BYTES = 9
"""Of the first record and its first message."""
_buffer = bytearray(_READ_BYTES)
"""Where all connections read to. asyncio copies from it before it reads again."""


class LeanTlsProtocol(sslproto.SSLProtocol):
    """The TLS layer of one connection to the server."""

    max_size = _READ_BYTES

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        secured: asyncio.Future[None],
        charge: Callable[[float], None],
        seconds: float,
    ) -> None:
        timeouts: Any = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": seconds}  # typeshed wants an int
        super().__init__(loop, protocol, context, secured, server_side=True, **timeouts)
        self._secured = secured
        self._charge = charge
        self._hello = b""
        self._ssl_buffer = _buffer
        self._ssl_buffer_view = memoryview(_buffer)
        self._set_read_buffer_limits(_WAITING_BYTES)  # type: ignore[attr-defined]
        self._set_write_buffer_limits(_UNWRITTEN_BYTES)  # type: ignore[attr-defined]

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        transport.set_write_buffer_limits(_UNWRITTEN_BYTES)
        super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio. Charge the handshake's processor time: a signature by RSA may take ten times the usual."""
        if self._secured.done():
            super().buffer_updated(nbytes)
            return
        if (missing := _HELLO_HEADER_BYTES - len(self._hello)) > 0:
            self._hello += bytes(self._ssl_buffer_view[: min(nbytes, missing)])
            if nbytes >= missing and not _is_usual(self._hello):
                self._fatal_error(ConnectionAbortedError("the ClientHello is too long"))
                return
        began = time.thread_time()
        super().buffer_updated(nbytes)
        self._charge(time.thread_time() - began)


def _is_usual(hello: bytes) -> bool:
    """Return whether a ClientHello begins with its whole header, and has a usual length."""
    return int.from_bytes(hello[3:5]) >= _HELLO_HEADER_BYTES - 5 and int.from_bytes(hello[6:9]) <= _HELLO_BYTES


async def connect_accepted_tls(
    make: Callable[[], asyncio.BaseProtocol],
    accepted: socket.socket,
    context: ssl.SSLContext,
    charge: Callable[[float], None],
    seconds: float,
) -> None:
    """Do a TLS handshake on an accepted socket, and connect it to a protocol.

    :param charge: called with the processor time of each part of the handshake.
    :param seconds: for the handshake, and later for the end of the connection.
    :raises OSError: if the handshake fails.
    """
    loop = asyncio.get_running_loop()
    secured = loop.create_future()
    tls = LeanTlsProtocol(loop, make(), context, secured, charge, seconds)
    transport, _ = await loop.connect_accepted_socket(lambda: tls, accepted)
    try:
        await secured
    except BaseException:
        transport.abort()
        raise
