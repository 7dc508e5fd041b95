"""The TLS layer of the server's connections, beside a client of Python's ssl module."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest
from tests.integration.tasks.support.certificates import Signed
from tests.waiting import eventually_async, patient

from spoke_jobs.tasks.server.certificate import Certificate
from spoke_jobs.tasks.server.lean_tls import connect_accepted_tls


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Turns:
    """Work that waits until the test gives it a turn."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.at_once = at_once
        self.given = 0

    def run(self, work: Callable[[], None]) -> Callable[[], None]:
        self.waiting.append(work)
        if self.at_once:
            asyncio.get_running_loop().call_soon(self.give)
        return lambda: self.waiting.remove(work) if work in self.waiting else None

    def give(self) -> None:
        self.given += 1
        self.waiting.pop(0)()


@pytest.fixture
def context(signed: Signed) -> ssl.SSLContext:
    return Certificate(str(signed.cert), str(signed.key)).context()


async def test_each_part_of_a_handshake_waits_for_a_turn_and_what_follows_does_not(
    context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    turns = Turns(at_once=True)

    def talk() -> tuple[int, bytes]:
        theirs.settimeout(patient(60))
        with trusting.wrap_socket(theirs, server_hostname="localhost") as sender:
            sender.sendall(b"first")
            answered = sender.recv(5)
            before = turns.given
            for _ in range(20):
                sender.sendall(50_000 * b"x")
                left = 50_000
                while left:
                    left -= len(sender.recv(left))
            return before, answered

    talking = asyncio.create_task(asyncio.to_thread(talk))
    await connect_accepted_tls(Echo, ours, context, turns.run, patient(60))
    before, answered = await talking
    assert answered == b"first"
    assert before == turns.given >= 2


async def test_until_its_turn_a_handshake_costs_and_keeps_little(
    context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    turns, transports = Turns(), list[asyncio.Transport]()
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting.wrap_bio(arriving, leaving, server_hostname="localhost").do_handshake()
    hello = leaving.read()
    theirs.send(hello)
    opening = asyncio.create_task(connect_accepted_tls(Echo, ours, context, turns.run, patient(60), transports.append))
    await eventually_async(lambda: bool(turns.waiting), "the hello has arrived")
    theirs.send(b"x" * 100)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not transports[0].is_reading()
    assert len(turns.waiting) == 1
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    transports[0].abort()  # as the server does for a new connection
    with pytest.raises(ConnectionAbortedError):
        await opening
    assert not turns.waiting
    with theirs:
        await eventually_async(lambda: ours.fileno() == -1, "its socket is closed")
