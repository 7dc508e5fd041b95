"""What senders may take of a server: headers, time, connections, bodies that never end."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
import uvloop
from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.support.certificates import Signed
from tests.waiting import eventually, patient

from spoke_jobs.tasks.server import guarded_server
from spoke_jobs.tasks.server.bounded_protocol import (
    CONNECTION,
    HEADERS_LIMIT,
    UNREAD_LIMIT_BYTES,
)
from spoke_jobs.tasks.server.certificate import Certificate
from spoke_jobs.tasks.server.connection_phases import PHASE_SECONDS, Phase
from spoke_jobs.tasks.server.connection_table import ConnectionLimits, ConnectionTable
from spoke_jobs.tasks.server.guarded_server import GuardedServer
from spoke_jobs.tasks.server.loop_share import LoopShare, Work


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that is content with everything."""
    path, body, headers = scope["path"], b"hi", []
    if path == "/prove":
        scope["state"][CONNECTION].prove()
    elif path == "/nodelay":
        accepted = scope["state"][CONNECTION].transport.get_extra_info("socket")
        body = b"set" if accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) else b"unset"
    elif path == "/wait":
        await asyncio.sleep(1)
    elif path == "/body":
        while (await receive()).get("more_body"):
            pass
    elif path.startswith("/large"):
        body = b"x" * 20_000_000
        headers = [(b"connection", b"close")] if path.endswith("close") else []
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def guarded(
    limits: ConnectionLimits | None = None,
    certificate: Certificate | None = None,
    share: LoopShare | None = None,
    at_first: Callable[[int], object] = lambda port: None,
    **phases: float,
) -> Iterator[tuple[int, ConnectionTable]]:
    """The server's part below the application, with short phases; its port, and its connections.

    :param at_first: called with the port when it is open and nothing is accepted yet.
    """
    table = ConnectionTable(limits or ConnectionLimits())
    seconds = PHASE_SECONDS | {Phase(name): value for name, value in phases.items()}
    server = GuardedServer(
        uvicorn.Config(hello, lifespan="off", log_config=None, timeout_keep_alive=75),
        table,
        share or LoopShare(),
        tls=certificate.context if certificate is not None else None,
        phase_seconds=seconds,
    )
    monkeypatched = pytest.MonkeyPatch()
    monkeypatched.setattr(guarded_server, "_SWEEP_TICKS", 1)
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    at_first(listening.getsockname()[1])
    thread = threading.Thread(target=lambda: server.run([listening]))
    thread.start()
    try:
        yield listening.getsockname()[1], table
    finally:
        server.should_exit = True
        thread.join()
        monkeypatched.undo()


def connected(port: int) -> Any:
    return closing(socket.create_connection(("127.0.0.1", port), timeout=patient(30)))


REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PROVING = b"GET /prove HTTP/1.1\r\nhost: x\r\n\r\n"


def read_to_end(sender: socket.socket) -> bytes:
    """What arrives until the connection ends, in whatever way."""
    answer = b""
    try:
        while data := sender.recv(65_536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", "headers"),
        (b"GET / HT", "headers"),
        (REQUEST + b"GET / HTTP/1.1\r\nhost:", "headers"),
        (REQUEST, "idle"),
        (b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nx", "body"),
    ],
)
def test_a_phase_that_takes_too_long_ends_the_connection(sent: bytes, phase: str) -> None:
    with guarded(**{phase: 0.2}) as (port, table), connected(port) as sender:
        sender.sendall(sent)
        answer = read_to_end(sender)
        eventually(lambda: len(table) == 0, "the connection's end")
        assert table.closed[phase] == 1
    assert answer.endswith(b"hi") == (REQUEST in sent)


def test_an_answer_to_a_request_that_has_not_ended_ends_the_connection() -> None:
    """Its sender could otherwise hold the connection for ever: the answer is sent, and the body is not."""
    with guarded() as (port, table), connected(port) as sender:
        sender.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        assert read_to_end(sender).endswith(b"hi")
        eventually(lambda: len(table) == 0, "the connection's end")


def test_an_answer_does_not_wait_for_the_peers_acknowledgement() -> None:
    """Without TCP_NODELAY, a line of an answer would wait for the acknowledgement of the one before, up to 40 ms."""
    with guarded() as (port, _), connected(port) as sender:
        sender.sendall(b"GET /nodelay HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert read_to_end(sender).endswith(b"\r\n\r\nset")


@pytest.mark.parametrize(("path", "phase"), [("/large", "write"), ("/large-and-close", "close")])
def test_a_sender_that_does_not_read_its_answer_is_given_up(path: str, phase: str) -> None:
    with guarded(write=0.2, close=0.2) as (port, table), connected(port) as sender:
        sender.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        eventually(lambda: table.closed[phase] == 1 and len(table) == 0, "its end")


def test_garbage_in_the_middle_of_an_answer_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    with guarded() as (port, table), connected(port) as sender:
        sender.sendall(b"POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        eventually(lambda: len(table) == 1, "the connection")
        sender.sendall(b"no chunk\r\n")
        read_to_end(sender)
        eventually(lambda: len(table) == 0, "the connection's end")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "much",
    [b"GET /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n", b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"],
)
def test_what_nobody_reads_is_not_kept_in_memory(much: bytes) -> None:
    """The body of a GET, and requests that are sent before the last one is answered.

    A connection that has shown no valid credentials reads less at once, so that most of this stays in the kernel.
    """
    with guarded() as (port, table), connected(port) as sender:
        ask(sender, PROVING)
        with suppress(OSError):
            sender.sendall(much + b"x" * 3 * UNREAD_LIMIT_BYTES)
        read_to_end(sender)
        eventually(lambda: len(table) == 0, "the connection's end")
        assert table.closed["unread"] == 1


@pytest.fixture(scope="module")
def certificate(signed: Signed) -> Certificate:
    return Certificate(str(signed.cert), str(signed.key))


def test_a_handshake_that_does_not_begin_is_given_up(certificate: Certificate) -> None:
    with guarded(None, certificate, headers=0.2) as (port, table), connected(port) as silent:
        assert silent.recv(1) == b""
        eventually(lambda: len(table) == 0, "its end")
        assert table.closed["tls"] == 1


@pytest.mark.parametrize(
    "hello",
    [
        b"\x16\x03\x01\x40\x00\x01\x01\xff\xff\x03\x03",  # it announces 131,071 bytes
        b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x03\x01\xff\xff",  # likewise, in two records
    ],
)
def test_a_long_hello_is_given_up_before_it_takes_memory(certificate: Certificate, hello: bytes) -> None:
    with guarded(None, certificate, headers=60.0) as (port, table), connected(port) as sender:
        for one in range(len(hello)):
            with suppress(OSError):
                sender.sendall(hello[one : one + 1])
        assert read_to_end(sender) == b""
        eventually(lambda: len(table) == 0, "its end")
        assert table.closed["tls"] == 1


def test_connections_without_a_handshake_take_no_place_from_others(
    certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    with guarded(ConnectionLimits(total=2, peer=2), certificate) as (port, table):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=patient(60)) for _ in range(5)]
        assert [read_to_end(one) for one in silent[:3]] == [b""] * 3, "the oldest are closed"
        with connected(port) as plain, trusting.wrap_socket(plain, server_hostname="localhost") as sender:
            sender.sendall(REQUEST)
            assert b"200" in sender.recv(4096)
        for one in silent:
            one.close()
        eventually(lambda: len(table) == 0, "the end of all")


class MeasuredShare(LoopShare):
    """Knows how much has waited at the same time."""

    most = count = 0

    def run(self, peer: str, work: Work) -> int:
        number = super().run(peer, work)
        self.count += 1
        self.most = max(self.most, self.waiting)
        return number


def test_no_more_work_waits_than_connections_are_open() -> None:
    """Of a connection that is displaced before its turn nothing is left, however fast new ones come."""
    limits, share = ConnectionLimits(total=5, peer=5), MeasuredShare()
    senders: list[socket.socket] = []

    def flood(port: int) -> None:
        for number in range(90):
            source = (f"127.0.0.{2 + number % 3}", 0)
            address = ("127.0.0.1", port)
            senders.append(socket.create_connection(address, timeout=patient(30), source_address=source))

    with guarded(limits, share=share, at_first=flood) as (port, table):
        eventually(lambda: table.closed["displaced"] == 85, "their admission")
        assert 0 < share.most <= 5
        eventually(lambda: len(select.select(senders, [], [], 0)[0]) == 85, "the end of those that are displaced")
        with connected(port) as sender:
            ask(sender, REQUEST)
        for sender in senders:
            sender.close()


def test_handshakes_wait_for_their_turn_as_other_work_does(certificate: Certificate, trusting: ssl.SSLContext) -> None:
    share = MeasuredShare()
    with guarded(certificate=certificate, share=share) as (port, _):
        with connected(port) as plain, trusting.wrap_socket(plain, server_hostname="localhost") as sender:
            ask(sender, REQUEST)
        assert share.count >= 4, "for its opening, two parts of its handshake, and its request"


def is_reset(sender: socket.socket, request: bytes) -> bool:
    try:
        sender.sendall(request)
        return sender.recv(4096) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def ask(sender: socket.socket, request: bytes) -> None:
    """Send a request, and read the whole answer."""
    sender.sendall(request)
    answer = b""
    while not answer.endswith(b"hi"):
        data = sender.recv(4096)
        assert data, answer
        answer += data


def test_connections_beyond_the_limit_are_closed_but_for_probes_and_proven_ones_live() -> None:
    limits = ConnectionLimits(total=2, peer=10, probes=1)
    with guarded(limits) as (port, table), connected(port) as first, connected(port) as second:
        ask(first, PROVING)
        ask(second, REQUEST)
        with connected(port) as third:  # displaces the second, which has shown nothing
            ask(third, PROVING)
            assert is_reset(second, REQUEST)
            with connected(port) as fourth:
                assert is_reset(fourth, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            eventually(lambda: len(table) == 2, "the end of the one that was refused")
            with connected(port) as probe:
                ask(probe, REQUEST)
        ask(first, REQUEST)


@pytest.mark.parametrize(("proving", "end"), [(b"", b"\r\n"), (PROVING, b"\n")])
def test_more_headers_than_the_limit_are_refused_before_they_are_read(proving: bytes, end: bytes) -> None:
    """3,900 tiny ones fit into 16 kB, and took 0.5 MB of each connection until its next request."""
    with guarded() as (port, table):
        for count, status in ((HEADERS_LIMIT - 1, b"200"), (HEADERS_LIMIT, b"400"), (3_900, b"400")):
            with connected(port) as sender:
                if proving:
                    ask(sender, proving)
                with suppress(OSError):  # the server may have refused it before all is sent
                    sender.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + count * (b"a:" + end) + b"\r\n")
                sender.shutdown(socket.SHUT_WR)
                assert read_to_end(sender).startswith(b"HTTP/1.1 " + status)
        eventually(lambda: len(table) == 0, "the end of all")


UNFINISHED = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-filler: " + b"x" * 250_000
CONNECTIONS = 200


def test_blocks_of_headers_stay_in_the_kernel_where_uvloop_is_installed(start_server: StartServer) -> None:
    """With uvloop, uvicorn's default, the server reads 250 kB at once. This then takes 54 MiB, and otherwise 8."""
    server = start_server()
    with connected(server.port) as sender:
        with suppress(OSError):  # it may be reset before all is sent
            sender.sendall(UNFINISHED + b"\r\n\r\n")
        assert b"200 OK" not in read_to_end(sender)
    before = server.memory("VmHWM")
    senders = [socket.create_connection(("127.0.0.1", server.port), timeout=patient(60)) for _ in range(CONNECTIONS)]
    try:
        for sender in senders:
            sender.setblocking(False)
            sender.send(UNFINISHED)
        for sender in senders:
            sender.settimeout(60)
            read_to_end(sender)
        assert server.memory("VmHWM") - before < 32 * 2**20
    finally:
        for sender in senders:
            sender.close()
    assert server.ready()


def test_tls_connections_without_credentials_take_little_memory(
    start_server: StartServer, signed: Signed, trusting: ssl.SSLContext
) -> None:
    """They read no answer and send more. With the buffers of asyncio's TLS this took 140 MiB. It takes 21.

    It also notices a release of Python whose internals `lean_tls` no longer reaches.
    """
    server = start_server(tls_cert_file=signed.cert, tls_key_file=signed.key)

    def secured() -> ssl.SSLSocket:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that the server can soon write no more
        plain.settimeout(60)
        plain.connect(("127.0.0.1", server.port))
        return trusting.wrap_socket(plain, server_hostname="localhost")

    asking = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
    with secured() as sender:
        sender.sendall(asking)
        assert b"200 OK" in sender.recv(65_536)
    before = server.memory("VmHWM")
    first, more = 200 * asking, 10_000 * asking
    sent = {secured(): 0 for _ in range(CONNECTIONS)}
    try:
        for sender in sent:
            sender.sendall(first)
            sender.setblocking(False)
        sent_at = time.monotonic()
        while time.monotonic() < sent_at + 1.0:  # later, the kernel and the server take no more
            for sender, count in sent.items():
                try:
                    if count < len(more):
                        sent[sender] += sender.send(more[count : count + 16_384])
                        sent_at = time.monotonic()
                except ssl.SSLWantWriteError:
                    pass
                except OSError:  # on a slow machine, the server ends those that read nothing for 30 s
                    sent[sender] = len(more)
        assert server.memory("VmHWM") - before < 64 * 2**20
    finally:
        for sender in sent:
            sender.close()


def test_the_server_does_not_start_on_uvloop() -> None:
    server = GuardedServer(uvicorn.Config(hello, lifespan="off"), ConnectionTable(ConnectionLimits()), LoopShare())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError, match="uvloop"):
        runner.run(server.startup([]))
