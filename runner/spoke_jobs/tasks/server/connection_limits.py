"""Limits that uvicorn's HTTP protocol lacks: on the number of connections, and on the time for headers."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_LIMIT_BYTES = 16_384
"""The most bytes of a request's headers. uvicorn enforces it, see `serve`."""
HEADERS_SECONDS = 10.0
"""How long a request's headers may take, from their first byte or from the start of the connection."""
CONNECTION_LIMIT = 2_000
"""Further connections are closed unless they are for GET."""
EXTRA_GET_LIMIT = 50
"""How many further connections may be for GET. Otherwise senders could block the kubelet's probes, and the kubelet
would restart the replica."""


class BoundedProtocol(H11Protocol):
    """uvicorn's h11 protocol with these limits."""

    _headers_timer: asyncio.TimerHandle | None = None
    _only_get = False

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTION_LIMIT + EXTRA_GET_LIMIT:
            transport.abort()
            return
        self._only_get = len(self.connections) > CONNECTION_LIMIT
        self._headers_timer = self.loop.call_later(HEADERS_SECONDS, self._headers_timed_out)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        # A probe's request is short and arrives in one piece.
        if self._only_get and not data.startswith(b"GET "):
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self._headers_timer is None:
                self._headers_timer = self.loop.call_later(HEADERS_SECONDS, self._headers_timed_out)
        elif self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _headers_timed_out(self) -> None:
        self._headers_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
