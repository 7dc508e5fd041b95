"""What the code of a job, or a row of the ledger, can do to the worker: nothing to its other jobs."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, strategies
from sqlalchemy.exc import OperationalError
from tests.contract.ledger import LEASE, new_job
from tests.unit.worker.test_child_pool import NoProcess
from tests.waiting import eventually

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import AttemptState, Claim, Failure, JobState
from spoke_jobs.runners.attempt_counts import ObservedAttempt
from spoke_jobs.worker.child_messages import Order, Report, decode, encode
from spoke_jobs.worker.child_pool import Child, ChildKind, HeldOrder
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_options import WorkerOptions

SLOTS = 3


@dataclass
class Stage:
    """A supervisor, and a child of it whose part the test plays."""

    supervisor: Supervisor
    ledger: MemoryLedger
    child: Child
    theirs: socket.socket
    shared: SharedState

    def turn(self) -> None:
        self.supervisor._query(Reaper(self.ledger, "legacy", LEASE))

    def orders(self) -> list[Order]:
        """The orders that the child has got since the last call."""
        self.theirs.setblocking(False)
        try:
            lines = self.theirs.recv(65536).splitlines()
        except BlockingIOError:
            return []
        return [order for line in lines if isinstance(order := decode(line), Order)]

    def hold(self, limit: float | None = None) -> UUID:
        """Give the child an order."""
        order = Order(len(self.child.orders) + 1, 1, uuid4(), LEASE)
        self.child.orders[order.token] = HeldOrder(order, limit, False)
        return order.token

    def drop(self, report: Report) -> None:
        """Do as the supervisor does with a report that it accepts."""
        if report.token is not None:
            self.child.orders.pop(report.token, None)

    def receive(self, *reports: Report) -> None:
        for report in reports:
            self.theirs.sendall(encode(report))
        self.supervisor._receive(self.child)


def staged(kind: ChildKind) -> Iterator[Stage]:
    ledger = MemoryLedger()
    supervisor = Supervisor(ledger, WorkerOptions("legacy", ("report",), 1, LEASE, 60.0))
    ours, theirs = socket.socketpair()
    shared, descriptor = SharedState.make(SLOTS)
    child = Child(kind, SLOTS, 0, NoProcess(), ours, None, shared, StackFile(), OutputFile(), ready=True)
    child.process.pid = 0
    supervisor._pool.children.append(child)
    supervisor._selector.register(ours, 1, child)
    yield Stage(supervisor, ledger, child, theirs, SharedState.open(descriptor))
    supervisor._selector.close()
    ours.close()
    theirs.close()
    child.stack_file.close()
    child.output.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    yield from staged(ChildKind.THREAD)


@pytest.fixture
def loop_stage() -> Iterator[Stage]:
    yield from staged(ChildKind.LOOP)


def raises(error: Exception) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        raise error

    return method


@pytest.mark.parametrize("kind", ChildKind)
@pytest.mark.parametrize("stopped", [False, True], ids=["it died", "the worker stops"])
def test_an_order_that_an_exited_child_had_not_started_is_given_back_uncharged(kind: ChildKind, stopped: bool) -> None:
    for stage in staged(kind):
        ledger, child = stage.ledger, stage.child
        jobs = [ledger.insert(new_job()) for _ in range(2)]
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 2)
        for claim in claims:
            child.orders[claim.token] = HeldOrder(Order.of(claim), None, False)
        stage.shared.enter(claims[0].token)
        stage.shared.add(claims[0].token)
        child.process.returncode = -9
        exits = stage.supervisor._exits
        exits.interrupted(child) if stopped else exits.died(child)
        rows = [row for job in jobs if (row := ledger.get(job.id)) is not None]
        assert [(row.state, row.attempt) for row in rows] == [(JobState.WAITING, 1), (JobState.WAITING, 0)]
        causes = [[attempt.cause for attempt in ledger.attempts(job.id)] for job in jobs]
        assert causes == [[Cause.INTERRUPTED if stopped else Cause.KILLED], []]
        again = ledger.claim_batch("legacy", ["report"], "w", LEASE, 2)
        assert jobs[1].id in [claim.job.id for claim in again], "it is due at once, without a wait"


def test_an_order_that_an_event_loop_does_not_read_is_given_back(loop_stage: Stage) -> None:
    """A job's code may have read it from the socket. The child would not start it any more, either."""
    ledger, child = loop_stage.ledger, loop_stage.child
    jobs = [ledger.insert(new_job()) for _ in range(3)]
    sent = (time.monotonic() - LEASE, time.monotonic() - LEASE, time.monotonic())
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
    for claim, moment in zip(claims, sent, strict=True):
        child.orders[claim.token] = HeldOrder(Order.of(replace(claim, asked_at=moment)), None, False, sent_at=moment)
    loop_stage.shared.add(claims[0].token)  # it is begun
    loop_stage.supervisor._claiming.release_stale(loop_stage.supervisor._receive)
    assert list(child.orders) == [claims[0].token, claims[2].token]
    states = [row.state for job in jobs if (row := ledger.get(job.id)) is not None]
    assert states == [JobState.RUNNING, JobState.WAITING, JobState.RUNNING]
    assert [len(ledger.attempts(job.id)) for job in jobs] == [1, 0, 1]


@pytest.mark.parametrize("method", ["cancel_requests", "expire_starts", "settle", "prune"])
def test_a_routine_that_raises_keeps_no_job_from_starting(
    stage: Stage, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.hold()  # so that it asks for cancellations
    job = stage.ledger.insert(new_job())
    monkeypatch.setattr(stage.ledger, method, raises(OverflowError("date value out of range")))
    stage.turn()
    assert [order.job_id for order in stage.orders()] == [job.id]
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert logged.exc_info is not None
    assert logged.exc_info[0] is OverflowError
    assert stage.supervisor.metrics.counts["unexpected_errors"] == 1


def test_claims_go_on_once_they_raise_no_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    job = stage.ledger.insert(new_job())
    with monkeypatch.context() as patched:
        patched.setattr(stage.ledger, "claim_batch", raises(ValueError("of one row")))
        stage.turn()
        assert stage.orders() == []
        assert stage.supervisor._pause(Reaper(stage.ledger, "legacy", LEASE)) >= 0

    def orders() -> list[Order]:
        stage.turn()
        return stage.orders()

    found = eventually(orders, "its order")
    assert [order.job_id for order in found] == [job.id]


def test_what_concerns_all_jobs_is_raised(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.ledger, "prune", raises(ConfigurationError("no password")))
    with pytest.raises(ConfigurationError):
        stage.turn()
    stage.supervisor._next_prune = 0
    monkeypatch.setattr(stage.ledger, "prune", raises(OperationalError("", {}, ValueError())))
    stage.ledger.insert(new_job())
    stage.turn()
    assert stage.orders() == [], "a database error ends the turn"


def test_an_end_that_cannot_be_recorded_leaves_the_other_ends_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.ledger.insert_many([new_job(), new_job()])
    bad, good = stage.ledger.claim_batch("legacy", ["report"], "w", LEASE, 2)
    fail = stage.ledger.fail

    def fail_some(token: UUID, failure: Failure, *, decide: bool) -> bool:
        if token == bad.token:
            raise LookupError("of one row")
        return fail(token, failure, decide=decide)

    monkeypatch.setattr(stage.ledger, "fail", fail_some)
    monkeypatch.setattr(stage.ledger, "release", raises(LookupError("of one row")))
    exits = stage.supervisor._exits
    exits.release(Order.of(bad))
    exits.release(Order.of(good))
    exits.write()
    states = [stage.ledger.attempts(claim.job.id)[-1].state for claim in (bad, good)]
    assert states == [AttemptState.RUNNING, AttemptState.FAILED]


def test_a_job_that_reports_its_own_end_is_still_ended_at_its_timeout(stage: Stage) -> None:
    running, waiting = stage.hold(0.0), stage.hold()
    stage.shared.enter(running)
    stage.shared.function_begins(running)
    for forged in (Report(0, token=running), Report(0, token=waiting), Report(0, last=True), Report(0, True, running)):
        stage.receive(forged)
        assert list(stage.child.orders) == [running, waiting]
    enforcer = stage.supervisor._limits
    stage.shared._memory[16:24] = bytes(8)  # it began long ago
    reason = enforcer._exceeded(stage.child)
    assert reason is not None
    assert (reason.token, reason.cause) == (running, Cause.TIMEOUT)
    stage.shared.leave()
    stage.receive(Report(0, token=running))
    assert list(stage.child.orders) == [waiting], "the child's own report counts"
    stage.receive(Report(None, last=True))
    assert not stage.child.orders


def test_an_async_job_that_reports_ends_is_still_ended_at_its_timeout(loop_stage: Stage) -> None:
    stage = loop_stage
    one, other = stage.hold(), stage.hold()
    stage.shared.add(one)
    stage.shared.add(other)
    stage.receive(Report(0, token=one), Report(0, token=other), Report(0, last=True))
    assert list(stage.child.orders) == [one, other]
    stage.shared.enter(other)  # a task that it has left behind goes on
    stage.shared.remove(other)
    stage.receive(Report(0, token=other))
    assert list(stage.child.orders) == [one]


@given(strategies.lists(strategies.integers(0, 3), max_size=60))
@settings(deadline=None)
def test_no_report_of_a_child_s_own_is_refused(moves: list[int]) -> None:
    """However the child and the supervisor take turns."""
    for stage in staged(ChildKind.THREAD):
        sent: deque[UUID] = deque()
        reports: deque[Report] = deque([Report()])
        running: UUID | None = None
        for move in moves:
            if move == 0 and len(stage.child.orders) < 2:
                sent.append(stage.hold())
            elif move == 1 and running is None and sent:
                running = sent.popleft()
                stage.shared.enter(running)
            elif move == 2 and running is not None:
                stage.shared.leave()
                reports.append(Report(0, token=running))
                running = None
            elif move == 3 and reports:
                report = reports.popleft()
                assert stage.child.may_have_sent(report)
                stage.drop(report)
        if running is not None:
            stage.shared.leave()
            reports.append(Report(0, last=True, token=running))
        for report in reports:
            assert stage.child.may_have_sent(report)
            stage.drop(report)


@given(strategies.lists(strategies.tuples(strategies.integers(0, 3), strategies.integers(0, SLOTS)), max_size=60))
@settings(deadline=None)
def test_no_report_of_an_async_child_s_own_is_refused(moves: list[tuple[int, int]]) -> None:
    for stage in staged(ChildKind.LOOP):
        sent: deque[UUID] = deque()
        reports: deque[Report] = deque()
        running: list[UUID] = []
        ended: list[UUID] = []
        for move, which in moves:
            if move == 0 and len(stage.child.orders) < SLOTS:
                sent.append(stage.hold())
            elif move == 1 and sent:
                running.append(sent.popleft())
                stage.shared.add(running[-1])
                assert not stage.child.may_have_sent(Report(0, token=running[-1]))
            elif move == 2 and running:
                token = running.pop(which % len(running))
                ended.append(token)
                stage.shared.remove(token)
                reports.append(Report(0, token=token))
            elif move == 3 and reports:
                if ended:
                    stage.shared.enter(ended[which % len(ended)])  # a task that a job has left behind
                report = reports.popleft()
                assert stage.child.may_have_sent(report)
                stage.drop(report)


def test_an_attempt_has_run_since_the_child_s_last_end_and_an_order_that_was_not_started_has_not(stage: Stage) -> None:
    """Also if its child got the order earlier, and if the child dies."""
    tokens = [stage.hold() for _ in range(3)]
    for item in stage.child.orders.values():
        item.sent_at -= 100
        item.observed = ObservedAttempt("report", "", "", None, False)
    figures = stage.supervisor.metrics.attempts.figures
    stage.receive(Report(0, token=tokens[0]))
    (first,) = figures().runs.values()
    assert first.total >= 100
    stage.receive(Report(ExitCode.FAILED, token=tokens[1]))
    (both,) = figures().runs.values()
    assert (sum(both.counts), both.total - first.total < 100) == (2, True)
    stage.child.process.returncode = -9
    stage.supervisor._exits.died(stage.child)
    (rest,) = figures().runs.values()
    assert sum(rest.counts) == 2, "the third one had not begun"
    assert list(figures().failed.values()) == [1]


@pytest.mark.parametrize("kind", ChildKind)
def test_what_a_child_did_not_start_is_released_and_counted_apart_and_says_nothing_of_durations(
    kind: ChildKind,
) -> None:
    for stage in staged(kind):
        job = stage.ledger.insert(new_job())
        (claim,) = stage.ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
        held = HeldOrder(Order.of(claim), None, False)
        held.observed = ObservedAttempt("report", "", "", None, False)
        stage.child.orders[claim.token] = held
        before = dict(stage.supervisor._claiming._seconds)
        stage.receive(Report(ExitCode.NOT_STARTED, token=claim.token))
        row = stage.ledger.get(job.id)
        assert row is not None
        assert (row.state, row.attempt, list(stage.ledger.attempts(job.id))) == (JobState.WAITING, 0, [])
        counts = stage.supervisor.metrics.counts
        assert (counts["ended_not_started"], counts["ended_superseded"]) == (1, 0)
        assert stage.supervisor._claiming._seconds == before
        assert not stage.supervisor.metrics.attempts.figures().runs


def test_a_claim_that_a_child_did_not_start_and_that_cannot_be_released_is_not_charged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage.ledger.insert(new_job())
    (claim,) = stage.ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    stage.child.orders[claim.token] = HeldOrder(Order.of(claim), None, False)
    with monkeypatch.context() as patched:
        for method in ("release", "fail"):
            patched.setattr(
                stage.ledger, method, raises(OperationalError("", {}, ValueError(), connection_invalidated=True))
            )
        stage.receive(Report(ExitCode.NOT_STARTED, token=claim.token))
    assert stage.ledger.attempts(job.id)[-1].state is AttemptState.RUNNING
    stage.turn()
    assert [attempt.cause for attempt in stage.ledger.attempts(job.id)] == [Cause.INTERRUPTED]


class Late:
    """A child that gets its orders too late to start them."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = stage
        self.claims: dict[UUID, Claim] = {}
        real = stage.ledger.claim_batch

        def claim_batch(*arguments: Any) -> list[Claim]:
            claims = [replace(claim, start_by=time.monotonic() - 0.001) for claim in real(*arguments)]
            self.claims |= {claim.token: claim for claim in claims}
            return claims

        monkeypatch.setattr(stage.ledger, "claim_batch", claim_batch)

    def order(self) -> Order:
        """Claim a job, and return its order."""
        self.stage.supervisor._claiming.expect_work()
        self.stage.turn()
        return list(self.stage.child.orders.values())[-1].order

    def gives_back(self, count: int) -> float:
        """Report some orders that came too late; return how much more time the next one gets."""
        for _ in range(count):
            self.stage.receive(Report(ExitCode.NOT_STARTED, token=self.order().token))
        order = self.order()
        return order.start_by - self.claims[order.token].start_by


@pytest.mark.parametrize(("count", "seconds"), [(4, 0.0), (5, 0.1)])
def test_a_worker_whose_child_is_always_late_gives_it_more_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, count: int, seconds: float
) -> None:
    late = Late(stage, monkeypatch)
    stage.ledger.insert(new_job())
    assert late.gives_back(count) == pytest.approx(seconds)


def test_a_job_that_began_in_time_and_still_runs_counts_as_one_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SharedState.make(SLOTS)
    late = Late(stage, monkeypatch)
    stage.ledger.insert(new_job())
    late.gives_back(4)
    running = Child(
        ChildKind.THREAD, 1, 0, NoProcess(), stage.child.connection, None, other[0], StackFile(), OutputFile()
    )
    token = next(iter(stage.child.orders))
    running.orders[token] = stage.child.orders.pop(token)
    other[0].enter(token)
    stage.supervisor._pool.children.append(running)
    stage.ledger.insert(new_job())
    assert late.gives_back(4) == pytest.approx(0.0)
    running.stack_file.close()
    running.output.close()
    os.close(other[1])
