"""What sync writes for the cluster, concurrently with other writers, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Update, select, update
from tests.conftest import open_ledger
from tests.contract.ledger import EAGER, LEASE, SHORT, claim_next, claim_one, new_job, present
from tests.waiting import eventually, patient

from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.cluster import ended_attempts, reports, syncing
from spoke_jobs.ledger.cluster.ended_attempts import FIRST_LOOK, Look
from spoke_jobs.ledger.cluster.lane_load import LaneLoad, lane_loads
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.maintenance import overflow
from spoke_jobs.ledger.maintenance.overflow import LaneClaims
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.limits.job_limit import changed_bounds, parse_scope
from spoke_jobs.model import (
    ANY_CLAIM,
    AttemptReport,
    AttemptUsage,
    Claim,
    ClaimFilter,
    FailedJob,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    JobState,
)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    yield from open_ledger(request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_ledger_url"))


R = TypeVar("R")
BOTH = pytest.mark.parametrize("ledger", ["sqlite", "postgres"], indirect=True)
"""For one test of each statement. The rules are the same code on both databases."""


def step(ledger: SqlLedger, call: Callable[..., R], *given: object) -> R:
    """What sync does in one transaction."""
    with ledger.engine.begin() as connection:
        return call(connection, *given)


def write(ledger: SqlLedger, statement: Update) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(statement)


def job_with_hook(ledger: SqlLedger) -> JobRequest:
    return ledger.insert(new_job(runner="kubernetes", options=JobOptions(on_failure="tell")))


def fail_job(ledger: SqlLedger, job: JobRequest, failure: Failure) -> bool:
    return step(ledger, syncing.fail_job, job, failure)


@BOTH
@pytest.mark.parametrize("state", ["waiting", "running"])
def test_an_outcome_of_the_cluster_dispatches_what_is_to_follow_once(ledger: SqlLedger, state: str) -> None:
    job = job_with_hook(ledger)
    claim = claim_one(ledger, "kubernetes", ["report"], "pod", LEASE) if state == "running" else None
    assert fail_job(ledger, job, Failure("ImageUnavailable", "no such tag"))
    (follows,) = ledger.list_jobs(9, JobFilter(job_type="tell"))
    told = FailedJob.model_validate_json(follows.payload)
    assert (told.id, told.cause, told.message, follows.runner) == (
        job.id,
        "ImageUnavailable",
        "no such tag",
        "kubernetes",
    )
    if claim is not None:
        assert not ledger.fail(claim.token, Failure("JobError"), decide=False)
    assert not fail_job(ledger, job, Failure("NodeLost"))
    ended = present(ledger.get(job.id))
    assert (ended.state, ended.cause) == (JobState.FAILED, "ImageUnavailable")
    assert len(ledger.list_jobs(9, JobFilter(job_type="tell"))) == 1


def test_a_job_that_is_claimed_while_its_end_waits_for_the_row_is_decided_again(postgres_ledger_url: str) -> None:
    """Otherwise it would fail, and what follows a failure be dispatched, while its attempt runs and may succeed."""
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = job_with_hook(ledger)
    with ThreadPoolExecutor(1) as pool, ledger.engine.begin() as connection:
        connection.execute(select(job_request.c.id).where(job_request.c.id == job.id).with_for_update())
        ended = pool.submit(fail_job, ledger, job, Failure("SpokeJobDeleted"))
        eventually(lambda: waits_for_a_lock(ledger), "it has found no attempt, and waits for the row")
        assert isinstance(single_claim.claim(connection, job.id, job.uid, 1, 1, "pod", LEASE), Claim)
    assert not ended.result(patient(60))
    row = present(ledger.get(job.id))
    assert row.state is JobState.RUNNING
    assert ledger.list_jobs(9, JobFilter(job_type="tell")) == []
    ledger.engine.dispose()


def waits_for_a_lock(ledger: SqlLedger) -> bool:
    with ledger.engine.connect() as connection:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(connection.exec_driver_sql(waits).scalar())


@BOTH
def test_a_blocked_job_is_launched_once_those_it_depends_on_have_ended(ledger: SqlLedger) -> None:
    first, second = ledger.insert_many([new_job(runner="kubernetes"), new_job(runner="kubernetes")])
    after = (first.id, second.id)
    strict, lenient = ledger.insert_many(
        [new_job(runner="kubernetes", after=after, after_failed=follows) for follows in ("fail", "run")]
    )

    def launches() -> list[int]:
        with ledger.engine.begin() as connection:
            assert not syncing.may_launch(connection, strict)
            return [job.id for job, _ in syncing.unlaunched(connection, 0, [], 10)]

    assert launches() == [first.id, second.id]
    assert fail_job(ledger, first, Failure("OutOfMemory"))
    assert launches() == [second.id]
    ledger.succeed(None, claim_next(ledger, worker="pod", runner="kubernetes").token, None)
    assert launches() == [lenient.id]


@BOTH
def test_however_many_jobs_wait_for_a_retry_the_others_are_launched(ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    found = step(ledger, syncing.unlaunched, 0, range(-70_000, 0), 10)
    assert [other.id for other, _ in found] == [job.id]


def in_line(ledger: SqlLedger, **changes: object) -> JobRequest:
    """A job that locks its queue, and is not launched."""
    values: dict[str, object] = {"runner": "kubernetes", "queue_name": "exports", "locks_queue": True}
    return ledger.insert(new_job(**(values | changes)))


def may_launch(ledger: SqlLedger, job: JobRequest, wait_seconds: float | None = None) -> bool:
    return step(ledger, syncing.may_launch, job, wait_seconds)


def record_submitted(ledger: SqlLedger, job: JobRequest) -> None:
    assert step(ledger, syncing.record_submitted, job)


@BOTH
def test_a_job_that_locks_its_queue_waits_for_the_spokejob_of_the_older_ones(ledger: SqlLedger) -> None:
    first, second, third = (in_line(ledger) for _ in range(3))
    assert [may_launch(ledger, job) for job in (first, second, third)] == [True, False, False]
    record_submitted(ledger, first)
    assert [may_launch(ledger, job) for job in (first, second, third)] == [False, True, False]
    assert fail_job(ledger, second, Failure("InvalidSpec"))
    assert may_launch(ledger, third)
    again = present(ledger.retry(second.id))
    assert not may_launch(ledger, third), "it is the older one again"
    assert may_launch(ledger, again)


@pytest.mark.parametrize(
    "changes",
    [
        {"queue_name": "imports"},
        {"locks_queue": False},
        {"runner": "legacy"},
        {"priority": -1},
        {"run_after": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_job_waits_for_an_older_one_but_not_for_one_that(ledger: SqlLedger, changes: dict[str, object]) -> None:
    in_line(ledger, **changes)
    assert may_launch(ledger, in_line(ledger))
    in_line(ledger, priority=5)
    assert not may_launch(ledger, in_line(ledger, priority=4))
    assert may_launch(ledger, in_line(ledger, locks_queue=False)), "it locks no queue"


@BOTH
def test_a_job_waits_for_an_older_one_only_up_to_an_age(ledger: SqlLedger) -> None:
    first, second = in_line(ledger), in_line(ledger)
    assert [may_launch(ledger, job, 3600) for job in (first, second)] == [True, False]
    older = update(job_request).where(job_request.c.id == first.id)
    write(ledger, older.values(created_at=datetime.now(UTC) - timedelta(hours=2)))
    assert may_launch(ledger, second, 3600)
    assert not may_launch(ledger, second), "a runner leaves it to sync, which launches both"


@BOTH
@pytest.mark.parametrize(("text", "final"), [("Job\x00Error", True), ("Job\ud800Error", False)])
def test_an_end_with_text_that_no_database_holds_is_recorded_and_frees_the_queue(
    ledger: SqlLedger, text: str, final: bool
) -> None:
    job = ledger.insert(new_job(runner="kubernetes", queue_name="exports", locks_queue=True))
    other = ledger.insert(new_job(runner="kubernetes", queue_name="exports", locks_queue=True))
    claim = ledger.claim(job.id, job.uid, 1, 1, "pod\x00", LEASE)
    assert isinstance(claim, Claim)
    failure = Failure(text, text, text, text)
    with ledger.engine.begin() as connection:
        if final:
            assert syncing.fail_job(connection, job, failure)
        else:
            assert syncing.end_attempt(connection, job, 1, failure)
        assert reports.record(connection, job, AttemptReport(1, 1, text, text, text))
    ended = present(ledger.get(job.id))
    assert (ended.cause, ended.result_message) == ("Job\ufffdError", "Job\ufffdError")
    assert isinstance(ledger.claim(other.id, other.uid, 1, 1, "pod", LEASE), Claim), "the lock is free"


@pytest.mark.parametrize("own_cause", [None, "JobError"])
def test_the_cluster_s_cause_replaces_the_guess_of_the_next_claim_and_no_other(
    ledger: SqlLedger, own_cause: str | None
) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    first = ledger.claim(job.id, job.uid, 1, 1, "pod", SHORT)
    assert isinstance(first, Claim)
    if own_cause is not None:
        assert ledger.fail(first.token, Failure(own_cause), decide=False)
    eventually(lambda: isinstance(ledger.claim(job.id, job.uid, 1, 2, "pod", LEASE), Claim))
    assert step(ledger, reports.record, job, AttemptReport(1, 1, "DatabaseUnreachable"))
    assert [item.cause for item in ledger.attempts(job.id)] == [own_cause or "DatabaseUnreachable", ""]


@pytest.mark.parametrize(("cause", "place"), [("JobError", "KeyError@shop.f"), ("OutOfMemory", "")])
def test_an_outcome_with_the_cause_of_the_last_attempt_keeps_its_fingerprint(
    ledger: SqlLedger, cause: str, place: str
) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    claim = ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE)
    assert isinstance(claim, Claim)
    ledger.fail(claim.token, Failure("JobError", "KeyError: 'x'", fingerprint="KeyError@shop.f"), decide=False)
    assert step(ledger, syncing.fail_job, job, Failure(cause, "of the cluster"))
    row = present(ledger.get(job.id))
    assert (row.cause, row.fingerprint) == (cause, place)


def test_an_outcome_is_undone_with_its_transaction(ledger: SqlLedger) -> None:
    job = job_with_hook(ledger)
    with ledger.engine.connect() as connection, connection.begin() as transaction:
        assert syncing.fail_job(connection, job, Failure("NodeLost"))
        transaction.rollback()
    assert ledger.list_jobs() == [job]


def test_a_cancelled_job_s_outcome_is_that_and_nothing_follows(ledger: SqlLedger) -> None:
    job = job_with_hook(ledger)
    assert claim_one(ledger, "kubernetes", ["report"], "pod", LEASE) is not None
    ledger.cancel(job.id)
    assert fail_job(ledger, job, Failure("PodDeleted"))
    ended = present(ledger.get(job.id))
    assert (ended.state, ended.cause) == (JobState.FAILED, "Cancelled")
    assert ledger.list_jobs(9, JobFilter(job_type="tell")) == []


def test_an_older_run_s_outcome_changes_nothing(ledger: SqlLedger) -> None:
    job = job_with_hook(ledger)
    ledger.cancel(job.id)
    again = ledger.retry(job.id)
    assert not fail_job(ledger, job, Failure("NodeLost"))
    assert ledger.get(job.id) == again


@BOTH
def test_jobs_that_no_worker_takes_in_time_move_unless_one_has_begun(ledger: SqlLedger) -> None:
    options = JobOptions(lane="worker", overflow_seconds=60)
    late, taken, soon = (ledger.insert(new_job(runner=LANE_RUNNER, options=options)) for _ in range(3))
    old = update(job_request).where(job_request.c.id != soon.id)
    write(ledger, old.values(created_at=clock_after(-90), updated_at=clock_after(-90)))
    with ledger.engine.begin() as connection:
        found = [each.id for each in overflow.look(connection, None, 9).candidates]
    assert found == [late.id, taken.id]
    assert isinstance(ledger.claim(taken.id, taken.uid, 1, 1, "w", LEASE), Claim)
    assert step(ledger, overflow.move_to_pods, {*found, soon.id}) == [late.id]
    moved = present(ledger.get(late.id))
    assert (moved.runner, moved.run, moved.state) == ("kubernetes", 2, JobState.WAITING)


@BOTH
def test_a_look_at_jobs_that_may_move_counts_the_claims_since_the_last_one(ledger: SqlLedger) -> None:
    claim_of(ledger, queue_name="before", locks_queue=True)
    bound(ledger, "each-queue", max_running=9)
    first = step(ledger, overflow.look, None, 9)
    assert (first.claims, first.locked) == (None, {"before"})
    claims = [claim_of(ledger, queue_name="q", locks_queue=True, organization_id=7)]
    claims += [claim_of(ledger, queue_name="r", organization_id=number) for number in (7, 8)]
    claim_of(ledger, runner="legacy", queue_name="s")
    for claim in claims:
        ledger.succeed(None, claim.token, None)
    found = step(ledger, overflow.look, first.last_attempt, 9)
    assert found.claims == {
        LaneClaims(Subject("", "q"), "q"): 1,
        LaneClaims(Subject("", "r"), ""): 2,
    }, "limits differ by queue only"
    assert step(ledger, overflow.look, found.last_attempt, 9).claims == {}


@BOTH
def test_the_load_of_a_set_of_workers_is_what_its_workers_would_run(ledger: SqlLedger) -> None:
    jobs = [ledger.insert(new_job(runner=LANE_RUNNER)) for _ in range(3)]
    assert isinstance(ledger.claim(jobs[0].id, jobs[0].uid, 1, 1, "w", LEASE), Claim)
    ledger.insert(new_job(runner=LANE_RUNNER, run_after=datetime.now(UTC) + timedelta(hours=1)))
    ledger.insert(new_job(runner=LANE_RUNNER, job_type="paused"))
    ledger.insert(new_job(runner="legacy"))
    ledger.limits.pause(parse_scope("type:paused"), "the carrier is down")
    with ledger.engine.begin() as connection:
        late = update(job_request).where(job_request.c.id == jobs[1].id)
        connection.execute(late.values(created_at=clock_after(-90)))
        sets = {"all": ANY_CLAIM, "reports": ClaimFilter(types=("rep*",)), "rest": ClaimFilter(not_types=("rep*",))}
        loads = lane_loads(connection, sets)
    assert {name: (load.due, load.running) for name, load in loads.items()} == {
        "all": (2, 1),
        "reports": (2, 1),
        "rest": (0, 0),
    }
    assert 90 <= loads["all"].oldest_seconds < 90 + patient(300)
    assert loads["rest"] == LaneLoad()


def bound(ledger: SqlLedger, scope: str, **changes: Any) -> None:
    ledger.limits.set(parse_scope(scope), lambda bounds: changed_bounds(bounds, **changes))


def load_of_all(ledger: SqlLedger) -> LaneLoad:
    with ledger.engine.begin() as connection:
        return lane_loads(connection, {"all": ANY_CLAIM})["all"]


def test_of_the_jobs_of_a_serial_queue_the_load_counts_one(ledger: SqlLedger) -> None:
    for _ in range(20):
        ledger.insert(new_job(runner=LANE_RUNNER, queue_name="q", locks_queue=True))
    ledger.insert(new_job(runner=LANE_RUNNER, queue_name="r", locks_queue=True, job_type="other"))
    ledger.insert(new_job(runner=LANE_RUNNER, queue_name="q"))
    assert load_of_all(ledger).due == 3, "one of each queue, and one that needs no lock"
    bound(ledger, "queue:q", max_running=1)
    assert load_of_all(ledger).due == 2
    claim = claim_of(ledger, queue_name="q", locks_queue=True)
    load = load_of_all(ledger)
    assert (load.due, load.running) == (1, 1)
    ledger.succeed(None, claim.token, None)
    assert load_of_all(ledger).jobs == 2


@BOTH
def test_the_load_is_what_the_limits_leave_room_for(ledger: SqlLedger) -> None:
    for number in range(20):
        ledger.insert(new_job(runner=LANE_RUNNER, organization_id=number % 3))
    bound(ledger, "type:report", max_running=2)
    assert load_of_all(ledger).due == 2
    claims = [claim_of(ledger) for _ in range(2)]
    assert load_of_all(ledger) == LaneLoad(0, 2)
    ledger.succeed(None, claims[0].token, None)
    load = load_of_all(ledger)
    assert (load.due, load.running) == (1, 1)
    bound(ledger, "type:report", max_running=None)
    bound(ledger, "each-organization", rate="1/h", burst=2)
    assert load_of_all(ledger).due == 6 + 2, "two of each organization, and the two that claim_of() added have none"


def test_of_very_many_kinds_of_due_jobs_the_load_counts_all(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_limits, "COUNTED_APART", 2)
    for number in (1, 1, 2, 2, 3, 4):
        ledger.insert(new_job(runner=LANE_RUNNER, organization_id=number))
    bound(ledger, "each-organization", max_running=1)
    assert load_of_all(ledger).due == 4, "the last two count toward limits on all jobs only"
    bound(ledger, "all", max_running=3)
    assert load_of_all(ledger).due == 3


def look(ledger: SqlLedger, before: Look, limit: int = 2) -> Look:
    """Look for attempts that have ended, as if all had been claimed a minute ago."""
    write(ledger, update(job_attempt).values(claimed_at=clock_after(-60)))
    return step(ledger, ended_attempts.look, before, limit)


def claim_of(ledger: SqlLedger, runner: str = LANE_RUNNER, **changes: object) -> Claim:
    ledger.insert(new_job(runner=runner, **changes))
    return claim_next(ledger, runner=runner)


@BOTH
def test_each_look_finds_the_attempts_that_have_ended_since(ledger: SqlLedger) -> None:
    ledger.succeed(None, claim_of(ledger).token, None, None, AttemptUsage(1))
    before = look(ledger, FIRST_LOOK)
    assert before.ended == (), "what had ended before"
    running, ended = claim_of(ledger), claim_of(ledger)
    ledger.succeed(None, ended.token, None, None, AttemptUsage(2))
    first = look(ledger, before)
    assert [(item.job_type, item.runner, item.usage.peak_memory_bytes) for item in first.ended] == [
        ("report", LANE_RUNNER, 2)
    ]
    ledger.fail(running.token, Failure("OutOfMemory", usage=AttemptUsage(3)), decide=True)
    for _ in range(3):
        ledger.succeed(None, claim_of(ledger).token, None, None, AttemptUsage(4))
    second = look(ledger, first)
    assert [item.usage.peak_memory_bytes for item in second.ended] == [3, 4, 4]
    assert second.more
    third = look(ledger, second)
    assert [item.usage.peak_memory_bytes for item in third.ended] == [4]
    assert not third.more
    assert look(ledger, third).ended == ()


def test_a_look_passes_over_the_attempts_of_jobs_without_a_lane(ledger: SqlLedger) -> None:
    before = look(ledger, FIRST_LOOK)
    for _ in range(2):
        ledger.succeed(None, claim_of(ledger, "legacy").token, None, None, AttemptUsage(1))
    ledger.succeed(None, claim_of(ledger).token, None, None, AttemptUsage(2))
    first = look(ledger, before)
    assert (first.ended, first.more) == ((), True)
    assert [item.usage.peak_memory_bytes for item in look(ledger, first).ended] == [2]


def test_of_options_that_are_too_large_a_look_reads_nothing(ledger: SqlLedger) -> None:
    """It reads those of thousands of jobs at a time, and other code may have written any."""
    before = look(ledger, FIRST_LOOK)
    for text in ("", "x" * 4_000):
        claim = claim_of(ledger)
        asks = {"resources": {"requests": {"memory": "200Mi"}}, "made up": text}
        write(ledger, update(job_request).where(job_request.c.id == claim.job.id).values(options=asks))
        ledger.succeed(None, claim.token, None, None, AttemptUsage(1))
    small, large = look(ledger, before).ended
    assert small.options.resources == {"requests": {"memory": "200Mi"}}
    assert large.options.resources is None


@BOTH
def test_a_look_says_how_long_a_first_attempt_waited_for_its_pod_and_ran(ledger: SqlLedger) -> None:
    before = step(ledger, ended_attempts.look, FIRST_LOOK, 9)
    job = ledger.insert(new_job(runner="kubernetes", queue_name="mail", options=JobOptions(retry=EAGER)))
    for number in (1, 2):
        claim = ledger.claim(job.id, job.uid, 1, number, "pod", LEASE)
        assert isinstance(claim, Claim)
        ledger.fail(claim.token, Failure("JobError"), decide=False)
    with ledger.engine.begin() as connection:
        connection.execute(update(job_request).values(submitted_at=clock_after(-67)))
        connection.execute(update(job_attempt).values(claimed_at=clock_after(-60), finished_at=clock_after(-40)))
        first, second = ended_attempts.look(connection, before, 9).ended
    assert (first.queue_name, first.organization_id, first.succeeded) == ("mail", 3, False)
    assert first.wait_seconds == pytest.approx(7, abs=1)
    assert first.run_seconds == pytest.approx(20, abs=1)
    assert second.wait_seconds is None, "its job had begun"


def test_a_look_leaves_out_what_may_still_lack_earlier_attempts(ledger: SqlLedger) -> None:
    before = step(ledger, ended_attempts.look, FIRST_LOOK, 9)
    ledger.succeed(None, claim_of(ledger).token, None)
    assert step(ledger, ended_attempts.look, before, 9) == before
