"""What the supervisor holds of its children, and says to them."""

from __future__ import annotations

import selectors
import socket
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest

from spoke_jobs.worker.child_messages import Order, Report, decode, encode
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile


class NoProcess(subprocess.Popen[bytes]):
    """Stands for a child process; nothing is started."""

    def __init__(self) -> None:
        self.returncode = 0
        self.pid = 2**22 + 1  # no process has it: it is above the kernel's highest

    def __del__(self) -> None: ...


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_nobody_waits_for_a_child_that_reads_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    """Its loop or interpreter may be held up, and the others' orders and limits must not wait for that."""
    ours, theirs = ends
    with selectors.DefaultSelector() as selector:
        pool = ChildPool(selector)
        shared, descriptor = SharedState.make()
        child = Child(ChildKind.LOOP, 50, 0, NoProcess(), ours, None, shared, StackFile(), OutputFile())
        selector.register(ours, selectors.EVENT_READ, child)
        orders = [Order(n, 1, uuid4(), 60.0) for n in range(3_000)]
        for order in orders:
            pool.send(child, order)
        pool.close(child)
        assert child.unsent
        received = b""
        while data := theirs.recv(65536):
            received += data
            for _, events in selector.select(0):
                if events & selectors.EVENT_WRITE:
                    pool.flush(child)
        assert [decode(line) for line in received.splitlines()] == orders
    SharedState.open(descriptor)
    child.stack_file.close()
    child.output.close()


@pytest.mark.parametrize(
    "written", [b"[" * 5000 + b"\n", b'{"kind":"Report"}\n', b"x" * 20_000], ids=["deep", "odd", "long"]
)
def test_a_job_that_writes_to_its_child_s_socket_ends_the_connection_and_not_the_supervisor(
    ends: tuple[socket.socket, socket.socket], written: bytes
) -> None:
    ours, theirs = ends
    with selectors.DefaultSelector() as selector:
        pool = ChildPool(selector)
        shared, descriptor = SharedState.make()
        child = Child(ChildKind.LOOP, 50, 0, NoProcess(), ours, None, shared, StackFile(), OutputFile())
        selector.register(ours, selectors.EVENT_READ, child)
        report = Report(0, False, uuid4())
        theirs.sendall(encode(report) + written)
        assert pool.receive(child) == [report], "what came before counts"
        assert child.disconnected_at is not None, "the supervisor kills such a child"
        assert pool.receive(child) is None
    SharedState.open(descriptor)
    child.stack_file.close()
    child.output.close()


def test_what_a_job_has_left_behind_cannot_report_without_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    with selectors.DefaultSelector() as selector:
        pool = ChildPool(selector)
        shared, descriptor = SharedState.make()
        child = Child(ChildKind.THREAD, 1, 0, NoProcess(), ours, None, shared, StackFile(), OutputFile())
        selector.register(ours, selectors.EVENT_READ, child)
        first = Report(0, False, uuid4())
        theirs.sendall(encode(first))

        def refill(child: Child) -> list[Report] | None:
            theirs.sendall(encode(Report()) * 100)
            return ChildPool.receive(pool, child)

        pool.receive = refill  # type: ignore[method-assign]
        assert pool.receive_last(child)[0] == first
    SharedState.open(descriptor)
    child.stack_file.close()
    child.output.close()


def test_shared_state_is_read_as_it_was_written() -> None:
    shared, descriptor = SharedState.make()
    theirs, token = SharedState.open(descriptor), uuid4()
    assert shared.at == (None, 0.0)
    theirs.enter(token)
    theirs.lease_ends(12.5)
    holder, held_for = shared.at
    assert (holder, held_for >= 0, shared.deadline) == (token, True, 12.5)
    theirs.leave()
    assert shared.at[0] is None


@pytest.mark.parametrize(
    ("seconds", "missing", "processors", "may_start"),
    [
        pytest.param([None, None], 2, 2, 1, id="half of the processors are left to the jobs"),
        pytest.param([None, None, 1.0], 1, 2, 0, id="one after the other"),
        pytest.param([None, None, 6.0], 1, 2, 1, id="a start that hangs keeps no other one waiting"),
        pytest.param([None, 1.0], 6, 8, 3, id="as many at a time as there are processors for them"),
        pytest.param([None], 1, 1, 1, id="one processor"),
        pytest.param([1.0], 3, 2, 3, id="nobody runs jobs yet"),
        pytest.param([None, 1.0, 1.0, 1.0], 2, 4, 0, id="more are starting than may: all died at once"),
    ],
)
def test_children_start_a_few_at_a_time_beside_those_that_run_jobs(
    seconds: list[float | None], missing: int, processors: int, may_start: int
) -> None:
    """A number: for how long a child has been starting. None: it has just ended a job."""
    pool = ChildPool(selectors.DefaultSelector())
    for each in seconds:
        ours, theirs = socket.socketpair()
        shared, descriptor = SharedState.make()
        child = Child(ChildKind.THREAD, 1, 1, NoProcess(), ours, None, shared, StackFile(), OutputFile())
        child.started_once, child.made_at = each is None, 100.0 - (each or 0.0)
        child.reported_at = 99.5 if each is None else 0.0
        pool.children.append(child)
        SharedState.open(descriptor)
        theirs.close()
    assert pool.may_start(missing, processors, now=100.0) == may_start
    assert pool.may_start(missing, processors, now=120.0) == missing, "an idle worker's processors are free"
    for child in pool.children:
        child.connection.close()
        child.stack_file.close()
        child.output.close()
