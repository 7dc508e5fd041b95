"""uvicorn's HTTP protocol with bounds that it lacks: on the number of connections, and on how long headers may take."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_LIMIT_BYTES = 16_384
HEADERS_SECONDS = 10.0
"""How long a request's headers may take from their first byte, or from the connection's beginning."""
CONNECTION_LIMIT = 2_000
"""Beyond it new connections are closed at once, or when they ask for more than a look."""
LOOKING_LIMIT = 50
"""So many beyond it are open to GET: else senders would keep the kubelet's probes out, and have the replica killed."""


class BoundedProtocol(H11Protocol):
    """See the module."""

    _late: asyncio.TimerHandle | None = None
    _only_looks = False

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTION_LIMIT + LOOKING_LIMIT:
            transport.abort()
            return
        self._only_looks = len(self.connections) > CONNECTION_LIMIT
        self._late = self.loop.call_later(HEADERS_SECONDS, self._headers_late)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        # A probe's request is short and comes in one piece.
        if self._only_looks and not data.startswith(b"GET "):
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self._late is None:
                self._late = self.loop.call_later(HEADERS_SECONDS, self._headers_late)
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _headers_late(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
