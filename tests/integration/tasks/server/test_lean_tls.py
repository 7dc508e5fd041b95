"""The TLS layer of the server's connections, beside a client of Python's ssl module."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from tests.integration.tasks.support.certificates import Authority

from spoke_jobs.tasks.server.certificate import Certificate
from spoke_jobs.tasks.server.lean_tls import connect_accepted_tls


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def test_a_handshake_is_charged_and_what_follows_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("one")
    client = ssl.create_default_context(cafile=str(authority.cert))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    charged: list[float] = []

    def talk() -> tuple[int, bytes]:
        theirs.settimeout(60)
        with client.wrap_socket(theirs, server_hostname="localhost") as sender:
            sender.sendall(b"first")
            answered = sender.recv(5)
            # "first" may have come with the handshake's end, whose charge is made after the answer.
            sender.sendall(b"x")
            sender.recv(1)
            before = len(charged)
            for _ in range(20):
                sender.sendall(50_000 * b"x")
                left = 50_000
                while left:
                    left -= len(sender.recv(left))
            return before, answered

    talking = asyncio.create_task(asyncio.to_thread(talk))
    certificate = Certificate(str(signed.cert), str(signed.key))
    await connect_accepted_tls(Echo, ours, certificate.context(), charged.append, 60.0)
    before, answered = await talking
    assert answered == b"first"
    assert before == len(charged) > 0
    assert sum(charged) > 0
