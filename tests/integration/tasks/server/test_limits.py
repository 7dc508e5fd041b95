"""What senders may take of a server: headers, time, connections, bodies that never end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.servers import KEY
from tests.ports import free_port

from spoke_jobs.tasks.protocol import messages
from spoke_jobs.tasks.protocol.messages import Task
from spoke_jobs.tasks.server import connection_limits
from spoke_jobs.tasks.server.connection_limits import HEADERS_LIMIT_BYTES, BoundedProtocol


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that is content with everything."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})


@contextmanager
def bounded() -> Iterator[int]:
    """The server's protocol around it; the port."""
    config = uvicorn.Config(hello, port=free_port(), http=BoundedProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield config.port
    finally:
        server.should_exit = True
        thread.join()


def connected(port: int) -> Any:
    return closing(socket.create_connection(("127.0.0.1", port), timeout=30))


REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("first", [b"", b"GET / HT", REQUEST + b"GET / HTTP/1.1\r\nhost:"])
def test_headers_that_take_too_long_are_given_up(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADERS_SECONDS", 0.2)
    with bounded() as port, connected(port) as sender:
        sender.sendall(first)
        answer = b""
        while data := sender.recv(4096):
            answer += data
    assert answer.endswith(b"hi") == (REQUEST in first)


def test_a_sender_within_its_time_is_served_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADERS_SECONDS", 0.3)
    with bounded() as port, connected(port) as sender:
        for _ in range(4):
            time.sleep(0.15)  # in all longer than headers may take
            sender.sendall(REQUEST)
            while b"hi" not in sender.recv(4096):
                pass


def is_reset(sender: socket.socket, request: bytes) -> bool:
    try:
        sender.sendall(request)
        return sender.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_connections_beyond_the_limit_are_closed_but_for_probes_and_others_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_limits, "CONNECTION_LIMIT", 2)
    monkeypatch.setattr(connection_limits, "EXTRA_GET_LIMIT", 2)
    with bounded() as port, connected(port) as first, connected(port) as second:
        for sender in (first, second):
            sender.sendall(REQUEST)
            assert sender.recv(4096)
        with connected(port) as third:
            assert is_reset(third, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        with connected(port) as probe, connected(port) as another:
            for sender in (probe, another):
                sender.sendall(REQUEST)
                assert sender.recv(4096)
            with connected(port) as fifth:
                assert is_reset(fifth, REQUEST)
        first.sendall(REQUEST)
        assert first.recv(4096)


def test_headers_over_the_limit_are_refused(start_server: StartServer) -> None:
    server = start_server()
    port = int(server.url.rpartition(":")[2])
    with connected(port) as sender:
        sender.sendall(b"POST /v1/tasks HTTP/1.1\r\nhost: x\r\nx-filler: " + b"x" * (2 * HEADERS_LIMIT_BYTES))
        assert sender.recv(4096).startswith(b"HTTP/1.1 400")
    assert server.ready()


def test_many_slow_senders_keep_nobody_from_being_served(start_server: StartServer) -> None:
    server = start_server()
    port = int(server.url.rpartition(":")[2])
    head = (
        f"POST {messages.PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: {messages.NDJSON}\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: 100000\r\n\r\n{{"
    )
    senders = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(200)]
    try:
        for sender in senders:
            sender.sendall(head.encode())
        assert server.acknowledged(Task("a", "mark", "1"))["a"].outcome == "done"
        assert server.ready()
    finally:
        for sender in senders:
            sender.close()
