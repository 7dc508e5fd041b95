"""An HTTP server that receives notices: it records requests, and answers as it is told to."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import patient

PROXIES = [f(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for f in (str.lower, str.upper)]
"""Variables that this machine may set, for connections to others."""
WEBHOOK_KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@dataclass(frozen=True)
class Received:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """The server. By default it answers 200."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self._scheme, self._port = scheme, server.server_port
        self.received: list[Received] = []
        self.answers: deque[Callable[[BaseHTTPRequestHandler], None]] = deque()
        """How it answers the next requests."""
        self.closing = threading.Event()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self._port}{path}"

    def documents(self) -> list[Any]:
        return [each.document for each in self.received]

    def status(self, status: int, **headers: str) -> None:
        """Answer the next request with a status."""
        self.answers.append(lambda handler: _answer(handler, status, headers))

    def hang(self) -> None:
        """Do not answer the next request."""

        def answer(_handler: BaseHTTPRequestHandler) -> None:
            self.closing.wait(patient(60))

        self.answers.append(answer)

    def drip(self) -> None:
        """Send a header of the next answer byte by byte, without an end."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            ends = time.monotonic() + patient(60)
            while not self.closing.wait(0.02) and time.monotonic() < ends:
                handler.wfile.write(b"x")

        self.answers.append(answer)

    def break_off(self) -> None:
        """Close the connection of the next request without an answer."""
        self.answers.append(lambda _handler: None)


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.received.append(Received(self.path, headers, body))
            self.close_connection = True
            if served.answers:
                served.answers.popleft()(self)
            else:
                _answer(self, 200, {})

        do_GET = do_CONNECT = do_POST

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_arguments: Any) -> None:
            """The client has gone: nobody needs to know."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    served = Receiver(server, "http" if tls is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        served.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
