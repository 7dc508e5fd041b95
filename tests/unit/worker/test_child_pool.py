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


def made_child(kind: ChildKind, connection: socket.socket, ahead: int = 0) -> Child:
    """A child without a process."""
    shared, descriptor = SharedState.make()
    SharedState.open(descriptor)
    return Child(kind, 1, ahead, NoProcess(), connection, None, shared, StackFile(), OutputFile())


def let_go_of(child: Child) -> None:
    child.connection.close()
    child.stack_file.close()
    child.output.close()


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    with selectors.DefaultSelector() as selector:
        yield ChildPool(selector)


@pytest.fixture
def ends(pool: ChildPool) -> Iterator[tuple[Child, socket.socket]]:
    """A child whose part the test plays, and the child's end of the connection."""
    ours, theirs = socket.socketpair()
    child = made_child(ChildKind.LOOP, ours)
    pool._selector.register(ours, selectors.EVENT_READ, child)
    yield child, theirs
    let_go_of(child)
    theirs.close()


def test_nobody_waits_for_a_child_that_reads_nothing(pool: ChildPool, ends: tuple[Child, socket.socket]) -> None:
    """Its loop or interpreter may be held up, and the others' orders and limits must not wait for that."""
    child, theirs = ends
    orders = [Order(n, 1, uuid4(), 60.0) for n in range(3_000)]
    for order in orders:
        pool.send(child, order)
    pool.close(child)
    assert child.unsent
    received = b""
    while data := theirs.recv(65536):
        received += data
        for _, events in pool._selector.select(0):
            if events & selectors.EVENT_WRITE:
                pool.flush(child)
    assert [decode(line) for line in received.splitlines()] == orders


@pytest.mark.parametrize(
    "written", [b"[" * 5000 + b"\n", b'{"kind":"Report"}\n', b"x" * 20_000], ids=["deep", "odd", "long"]
)
def test_a_job_that_writes_to_its_child_s_socket_ends_the_connection_and_not_the_supervisor(
    pool: ChildPool, ends: tuple[Child, socket.socket], written: bytes
) -> None:
    child, theirs = ends
    report = Report(0, False, uuid4())
    theirs.sendall(encode(report) + written)
    assert pool.receive(child) == [report], "what came before counts"
    assert child.disconnected_at is not None, "the supervisor kills such a child"
    assert pool.receive(child) is None


def test_what_a_job_has_left_behind_cannot_report_without_end(
    pool: ChildPool, ends: tuple[Child, socket.socket]
) -> None:
    child, theirs = ends
    first = Report(0, False, uuid4())
    theirs.sendall(encode(first))

    def refill(child: Child) -> list[Report] | None:
        theirs.sendall(encode(Report()) * 100)
        return ChildPool.receive(pool, child)

    pool.receive = refill  # type: ignore[method-assign]
    assert pool.receive_last(child)[0] == first


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
    pool: ChildPool, seconds: list[float | None], missing: int, processors: int, may_start: int
) -> None:
    """A number: for how long a child has been starting. None: it has just ended a job."""
    for each in seconds:
        child = made_child(ChildKind.THREAD, socket.socket(), ahead=1)
        child.started_once, child.made_at = each is None, 100.0 - (each or 0.0)
        child.reported_at = 99.5 if each is None else 0.0
        pool.children.append(child)
    assert pool.may_start(missing, processors, now=100.0) == may_start
    assert pool.may_start(missing, processors, now=120.0) == missing, "an idle worker's processors are free"
    for child in pool.children:
        let_go_of(child)
