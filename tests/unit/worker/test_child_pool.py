"""What the supervisor holds of its children, and says to them."""

from __future__ import annotations

import selectors
import socket
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest

from spoke_jobs.worker.child_messages import Order, decode
from spoke_jobs.worker.child_pool import Child, ChildPool, Kind
from spoke_jobs.worker.shared_state import SharedState


class NoProcess(subprocess.Popen[bytes]):
    """Stands for a child process; nothing is started."""

    def __init__(self) -> None:
        self.returncode = 0

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
        child = Child(Kind.LOOP, 50, 0, NoProcess(), ours, None, shared)
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
