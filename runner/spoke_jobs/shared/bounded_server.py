"""An HTTP server for few requests, which idle connections and floods do not use up."""

from __future__ import annotations

import logging
import socket
import threading
from collections import Counter
from contextlib import suppress
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, RawIOBase
from socketserver import TCPServer
from typing import Any

MOST_CONNECTIONS = 64
"""Beyond that, the oldest connection is closed of the address that has the most."""
LONGEST_HEAD_BYTES = 16_384
"""The most bytes of a request's line and headers. Python's own limit is 6 MB, which all connections could take."""
logger = logging.getLogger(__name__)


class _HeadReader(BufferedReader):
    """Reads the lines of a request's head, up to a limit. Whoever reads a body bounds it."""

    def __init__(self, raw: RawIOBase) -> None:
        super().__init__(raw)
        self._left = LONGEST_HEAD_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line.

        :raises LineTooLong: if the head is too long. The handler then answers 431, or closes the connection.
        """
        line = super().readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("head")
        return line


class BoundedHandler(BaseHTTPRequestHandler):
    """Reads one request of a connection, whose head has at most :data:`LONGEST_HEAD_BYTES`."""

    def setup(self) -> None:
        """See socketserver."""
        super().setup()
        self.rfile = _HeadReader(self.rfile.detach())


class BoundedServer(ThreadingHTTPServer):
    """A server that keeps at most :data:`MOST_CONNECTIONS` connections, each with a thread."""

    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, str] = {}
        """The address of each, the oldest first."""
        if address[0]:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        elif socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room for the connection, and start its thread."""
        with self._lock:
            self._connections[request] = str(client_address[0])
            if len(self._connections) > MOST_CONNECTIONS:
                ((most, _),) = Counter(self._connections.values()).most_common(1)
                oldest = next(item for item, peer in self._connections.items() if peer == most)
                del self._connections[oldest]
                with suppress(OSError):  # its thread then closes it
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not print a traceback: the peer has gone, or its time was up."""
        logger.debug("a connection of %s ended early", client_address[0], exc_info=True)

    def server_bind(self) -> None:
        """Bind IPv4 and IPv6 if all addresses are wanted. Don't look up the host's name: DNS may not answer."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
