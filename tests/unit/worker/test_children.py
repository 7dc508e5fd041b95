"""What the supervisor holds of its children, and says to them."""

from __future__ import annotations

import selectors
import socket
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest

from spoke_jobs.worker.children import Child, Kind, Nursery
from spoke_jobs.worker.slate import Slate
from spoke_jobs.worker.wire import Order, decode


class Ended(subprocess.Popen[bytes]):
    """No process at all."""

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
        nursery = Nursery(selector)
        slate, descriptor = Slate.make()
        child = Child(Kind.LOOP, 50, 0, Ended(), ours, None, slate)
        selector.register(ours, selectors.EVENT_READ, child)
        orders = [Order(n, 1, uuid4(), 60.0) for n in range(3_000)]
        for order in orders:
            nursery.send(child, order)
        nursery.let_go(child)
        assert child.unsent
        received = b""
        while data := theirs.recv(65536):
            received += data
            for _, events in selector.select(0):
                if events & selectors.EVENT_WRITE:
                    nursery.flush(child)
        assert [decode(line) for line in received.splitlines()] == orders
    Slate.open(descriptor)


def test_a_slate_is_read_as_it_was_written() -> None:
    slate, descriptor = Slate.make()
    theirs, token = Slate.open(descriptor), uuid4()
    assert slate.at == (None, 0.0)
    theirs.enter(token)
    theirs.lease_ends(12.5)
    holder, held_for = slate.at
    assert (holder, held_for >= 0, slate.deadline) == (token, True, 12.5)
    theirs.leave()
    assert slate.at[0] is None
