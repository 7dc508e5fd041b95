"""The supervisor ends children that do not renew their leases, and says why."""

from __future__ import annotations

import math
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from tests.waiting import eventually

from spoke_jobs.contract.causes import Cause
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.worker import enforcing
from spoke_jobs.worker.child_exits import failure_of
from spoke_jobs.worker.child_messages import Order, Stop, decode
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool, HeldOrder, KillReason
from spoke_jobs.worker.enforcing import LimitEnforcer
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile

LEASE = 0.4


@dataclass
class Held:
    """A child process that holds an order, and its side of the shared memory."""

    child: Child
    shared: SharedState
    order: Order
    limits: LimitEnforcer
    theirs: socket.socket

    def received(self) -> list[object]:
        """The messages that the child could read by now."""
        try:
            return [decode(line) for line in self.theirs.recv(65536, socket.MSG_DONTWAIT).splitlines()]
        except BlockingIOError:
            return []

    def killed(self) -> tuple[UUID | None, str]:
        """Enforce limits until the child is killed; for which order, and the cause."""
        self.limits.start()
        try:
            eventually(lambda: self.child.process.poll() is not None, "it is killed")
        finally:
            self.limits.stop()
        assert self.child.kill_reason is not None
        return self.child.kill_reason.token, self.child.kill_reason.cause


@pytest.fixture
def held() -> Iterator[Held]:
    ours, theirs = socket.socketpair()
    with selectors.DefaultSelector() as selector, ours, theirs:
        pool = ChildPool(selector)
        shared, descriptor = SharedState.make()
        process = subprocess.Popen(["sleep", "600"], process_group=0)
        child = Child(ChildKind.THREAD, 1, 1, process, ours, None, shared, StackFile(), OutputFile())
        pool.children.append(child)
        selector.register(ours, selectors.EVENT_READ, child)
        order = Order(1, 1, uuid4(), LEASE)
        child.orders[order.token] = HeldOrder(order, None, False)
        yield Held(child, SharedState.open(descriptor), order, LimitEnforcer(MemoryLedger(), LEASE, pool), theirs)
        process.kill()
        process.wait()
        child.stack_file.close()
        child.output.close()


def test_a_child_that_ends_while_it_is_asked_for_its_stacks_stops_nobody_from_ending_others(held: Held) -> None:
    """The job has removed the handler, or the kernel ends the process: the main thread forgets it meanwhile."""
    held.child.orders[held.order.token].limit = 0.0
    held.shared.enter(held.order.token)
    held.shared.function_begins(held.order.token)
    held.shared.lease_ends(time.monotonic())
    pool = held.limits._pool
    with subprocess.Popen(["sleep", "600"], process_group=0) as first:
        ours, theirs = socket.socketpair()
        shared, descriptor = SharedState.make()
        other = Child(ChildKind.THREAD, 1, 1, first, ours, None, shared, StackFile(), OutputFile())
        order = Order(2, 1, uuid4(), LEASE)
        other.orders[order.token] = HeldOrder(order, 0.0, False)
        its = SharedState.open(descriptor)
        its.enter(order.token)
        its.function_begins(order.token)
        its.lease_ends(time.monotonic())
        pool.children.insert(0, other)
        pool._selector.register(ours, selectors.EVENT_READ, other)
        with ours, theirs:
            held.limits.start()
            eventually(lambda: first.poll() is not None, "the signal ends it")
            pool.forget(other)
            assert held.killed() == (held.order.token, Cause.TIMEOUT)
        other.output.close()


def test_the_order_behind_a_killed_one_is_a_bystander(held: Held) -> None:
    """It has begun between the decision to kill the child and its end."""
    held.child.kill_reason = KillReason(uuid4(), Cause.TIMEOUT)
    held.child.process.kill()
    held.child.process.wait()
    assert failure_of(held.child, held.child.orders[held.order.token]).cause == Cause.BYSTANDER


@pytest.mark.parametrize(
    ("unanswered", "cause"), [(True, Cause.DATABASE_UNREACHABLE), (False, Cause.WORKER_LOST)], ids=["away", "native"]
)
def test_a_child_that_does_not_run_before_its_lease_lapses_is_ended_with_the_cause(
    held: Held, unanswered: bool, cause: Cause
) -> None:
    """A busy machine, or native code, may keep its own watchdog from running in time."""
    held.shared.enter(held.order.token)
    held.shared.heartbeat_unanswered(unanswered)
    held.shared.lease_ends(time.monotonic())
    assert held.killed() == (held.order.token, cause)


def test_a_child_that_does_not_begin_its_order_is_replaced(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a job left behind may have read the order from the child's socket."""
    monkeypatch.setattr(enforcing, "_UNREAD_SECONDS", 0.0)
    assert held.limits._exceeded(held.child) is None
    held.shared.enter(uuid4())  # it still runs another one
    time.sleep(LEASE / 2)  # the time that it has
    assert held.limits._exceeded(held.child) is None
    held.shared.leave()
    assert held.limits._exceeded(held.child) is None
    assert held.killed() == (held.order.token, Cause.WORKER_LOST)


def test_an_attempt_that_runs_for_longer_than_jobs_may_there_is_ended(held: Held) -> None:
    item = held.child.orders[held.order.token]
    held.shared.enter(held.order.token)
    held.shared.function_begins(held.order.token)
    assert held.limits._exceeded(held.child) is None
    item.worker_seconds = 0.05
    assert held.killed() == (held.order.token, Cause.TOO_LONG_FOR_WORKER)


@pytest.mark.parametrize("kind", ChildKind)
def test_what_reading_the_payload_takes_does_not_count_against_the_timeout(held: Held, kind: ChildKind) -> None:
    """The database may be slow. A timeout bounds the job's function."""
    shared, descriptor = SharedState.make(2 if kind is ChildKind.LOOP else 0)
    held.child.kind, held.child.shared, theirs = kind, shared, SharedState.open(descriptor)
    item, token = held.child.orders[held.order.token], held.order.token
    item.limit = item.worker_seconds = 1.0
    item.sent_at -= 600
    if kind is ChildKind.LOOP:
        theirs.add(token)
    theirs.enter(token)
    theirs._memory[16:24] = bytes(8)  # it has been there since the machine started
    held.limits.end_overdue()
    assert (held.received(), held.child.kill_reason, held.limits._exceeded(held.child)) == ([], None, None)
    theirs.function_begins(token)
    assert held.limits._exceeded(held.child) is None
    item.limit = item.worker_seconds = -3600.0
    if kind is ChildKind.THREAD:
        assert held.killed() == (token, Cause.TIMEOUT)
    else:
        held.limits.end_overdue()
        assert held.child.kill_reason == KillReason(token, Cause.TIMEOUT)


def test_a_job_that_blocks_the_loop_is_not_charged_for_an_order_that_was_not_read(held: Held) -> None:
    shared, descriptor = SharedState.make(2)
    held.child.kind, held.child.shared, theirs = ChildKind.LOOP, shared, SharedState.open(descriptor)
    blocks = uuid4()
    theirs.add(blocks)
    theirs.function_begins(blocks)
    theirs.enter(blocks)
    theirs._memory[16:24] = bytes(8)
    item = held.child.orders[held.order.token]
    item.limit, item.cancelled_at = 1.0, time.monotonic() - 600
    item.sent_at -= 600
    held.limits.end_overdue()
    assert held.child.kill_reason is None


@pytest.mark.parametrize("kind", ChildKind)
def test_an_attempt_whose_function_has_ended_is_not_stopped_while_its_end_is_recorded(
    held: Held, kind: ChildKind
) -> None:
    """The database may be away for longer than the job's timeout."""
    shared, descriptor = SharedState.make(2 if kind is ChildKind.LOOP else 0)
    held.child.kind, held.child.shared, theirs = kind, shared, SharedState.open(descriptor)
    item, token = held.child.orders[held.order.token], held.order.token
    item.limit = item.worker_seconds = 0.01
    item.sent_at -= 600
    theirs.add(token)
    theirs.enter(token)
    theirs.function_ended(token)
    theirs._memory[16:24] = bytes(8)  # it has run since the machine started
    held.limits.end_overdue()
    assert (held.received(), held.child.kill_reason, held.limits._exceeded(held.child)) == ([], None, None)
    theirs.lease_ends(time.monotonic())
    reason = held.limits._exceeded(held.child)
    assert reason is not None
    assert reason.cause == Cause.WORKER_LOST, "only its lease limits it"
    theirs.lease_ends(math.inf)
    theirs.remove(token)
    theirs.add(token)
    theirs.enter(token)
    assert not shared.has_ended(token), "another attempt has its place"


def test_an_attempt_of_an_event_loop_is_asked_to_stop_and_its_loop_is_killed_only_if_it_does_not(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, descriptor = SharedState.make(1)
    held.child.kind, held.child.shared = ChildKind.LOOP, shared
    item = held.child.orders[held.order.token]
    item.worker_seconds = 600.0
    item.sent_at -= 601
    theirs = SharedState.open(descriptor)
    theirs.add(held.order.token)
    theirs.function_begins(held.order.token)
    held.limits.end_overdue()
    assert item.too_long_at is None, "its time is not over"
    assert item.called_at is not None
    item.called_at -= 601
    held.limits.end_overdue()
    assert held.received() == [Stop(held.order.token, StopReason.TOO_LONG)]
    held.limits.end_overdue()
    assert held.received() == [], "once"
    assert held.child.kill_reason is None
    monkeypatch.setattr(enforcing, "CANCEL_GRACE_SECONDS", 0.0)
    held.limits.end_overdue()
    assert held.child.kill_reason is not None
    assert (held.child.kill_reason.token, held.child.kill_reason.cause) == (held.order.token, "TooLongForWorker")
