"""Sync beside the workers of the lane `worker`: their jobs get no SpokeJob."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, update
from tests.contract.ledger import LEASE, claim_one
from tests.contract.ledger_lanes import of_lane
from tests.unit.sync.conftest import Turns
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.limits.job_limit import changed_bounds, parse_scope
from spoke_jobs.model import AttemptUsage, Failure, JobOptions, JobRequest, JobState


def row(ledger: SqlLedger, job: JobRequest) -> JobRequest:
    found = ledger.get(job.id)
    assert found is not None
    return found


def name_of(job: JobRequest) -> str:
    return spokejob_name(job.job_type, job.id, job.uid, job.run)


def test_only_jobs_of_the_lane_pod_get_spokejobs(ledger: SqlLedger, cluster: FakeCluster, turns: Turns) -> None:
    small, large = ledger.insert(of_lane("worker")), ledger.insert(of_lane("pod"))
    turns()
    assert list(cluster.objects) == [name_of(large)]
    assert row(ledger, small).submitted_at is None
    claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
    assert claim is not None
    turns()
    assert row(ledger, small).state is JobState.RUNNING, "sync does not end what has no SpokeJob on purpose"
    ledger.succeed(None, claim.token, None)
    turns()
    assert row(ledger, small).state is JobState.SUCCEEDED
    assert len(cluster.objects) == 1


def test_sync_deletes_the_ended_jobs_of_both_lanes(ledger: SqlLedger, engine: Engine, turns: Turns) -> None:
    jobs = [ledger.insert(of_lane(lane)) for lane in ("worker", "pod")]
    kept = ledger.insert(of_lane("worker", runner="legacy"))
    for job in (*jobs, kept):
        ledger.cancel(job.id)
    with engine.begin() as connection:
        connection.execute(update(job_request).values(expires_at=clock_after(-60)))
    turns()
    assert [ledger.get(job.id) for job in jobs] == [None, None]
    assert ledger.get(kept.id) is not None, "another runner's are not sync's"


def test_a_job_whose_worker_died_gets_a_spokejob_although_no_worker_is_left(
    ledger: SqlLedger, engine: Engine, cluster: FakeCluster, turns: Turns
) -> None:
    job = ledger.insert(of_lane("worker"))
    assert claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE) is not None
    turns()
    assert not cluster.objects
    with engine.begin() as connection:
        connection.execute(update(job_attempt).values(lease_expires_at=clock_after(-400)))
    turns()
    assert row(ledger, job).state is JobState.RUNNING, "after an outage, its owner may still renew the lease"
    turns(600)
    assert row(ledger, job).state is JobState.RUNNING, "sync itself could not look for five minutes"
    for _ in range(40):
        turns(20)
    moved = row(ledger, job)
    assert (moved.runner, moved.run, moved.cause) == ("kubernetes", 2, "WorkerLost")
    assert list(cluster.objects) == [name_of(moved)]
    turns()
    assert row(ledger, job).state is JobState.WAITING, "it waits for its pod"


def test_a_sync_that_is_busy_for_long_between_its_looks_ends_lost_attempts_too(
    ledger: SqlLedger, engine: Engine, turns: Turns
) -> None:
    """Each of its turns may take long, while it launches very many jobs. The database has answered all the time."""
    job = ledger.insert(of_lane("worker"))
    assert claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE) is not None
    with engine.begin() as connection:
        connection.execute(update(job_attempt).values(lease_expires_at=clock_after(-400)))
    for _ in range(5):
        turns(100)
    assert row(ledger, job).cause == "WorkerLost"


def test_the_spokejob_says_how_much_memory_the_attempt_in_a_worker_had(
    ledger: SqlLedger, cluster: FakeCluster, turns: Turns
) -> None:
    job = ledger.insert(of_lane("worker"))
    claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
    assert claim is not None
    ledger.fail(claim.token, Failure(Cause.OUT_OF_MEMORY, usage=AttemptUsage(300 * 2**20)), decide=True)
    killed = ledger.insert(of_lane("worker"))
    claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
    assert claim is not None
    ledger.fail(claim.token, Failure(Cause.KILLED, usage=AttemptUsage(300 * 2**20)), decide=True)
    turns()
    specs = [cluster.objects[name_of(row(ledger, each))]["spec"] for each in (job, killed)]
    assert specs[0]["measuredMemoryBytes"] == 300 * 2**20
    assert "measuredMemoryBytes" not in specs[1], "it did not run out of memory"


def overflowing(ledger: SqlLedger, seconds: float | None = 30.0, **changes: object) -> JobRequest:
    """Dispatch a job that moves to a pod if no worker takes it."""
    return ledger.insert(of_lane("worker", options=JobOptions(lane="worker", overflow_seconds=seconds), **changes))


def age(engine: Engine, seconds: float) -> None:
    """Let all jobs have waited for so long."""
    then = clock_after(-seconds)
    with engine.begin() as connection:
        connection.execute(update(job_request).values(created_at=then, updated_at=then))


def test_a_job_that_no_worker_takes_in_time_moves_to_a_pod(
    ledger: SqlLedger, engine: Engine, cluster: FakeCluster, turns: Turns
) -> None:
    job, patient, eager = overflowing(ledger), overflowing(ledger, None), overflowing(ledger, 600.0)
    turns()
    assert not cluster.objects
    age(engine, 60)
    turns()
    moved = row(ledger, job)
    assert (moved.runner, moved.run, moved.attempt, moved.state) == ("kubernetes", 2, 0, JobState.WAITING)
    assert list(cluster.objects) == [name_of(moved)]
    assert {row(ledger, each).runner for each in (patient, eager)} == {LANE_RUNNER}


def test_a_job_waits_for_a_pause_and_for_its_queue_in_its_own_lane(
    ledger: SqlLedger, engine: Engine, cluster: FakeCluster, turns: Turns
) -> None:
    """A pod would have to wait for them, too."""
    overflowing(ledger, queue_name="q", locks_queue=True)
    assert claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE) is not None
    locked = overflowing(ledger, queue_name="q", locks_queue=True)
    paused, free = overflowing(ledger, job_type="paused"), overflowing(ledger)
    ledger.limits.pause(parse_scope("type:paused"), "the carrier is down")
    age(engine, 60)
    turns()
    assert [row(ledger, each).runner for each in (locked, paused, free)] == [LANE_RUNNER, LANE_RUNNER, "kubernetes"]


@pytest.mark.parametrize(("locks_queue", "limit"), [(True, None), (False, 2)])
def test_a_job_does_not_move_while_workers_take_what_they_may_of_its_queue_or_limit(
    ledger: SqlLedger, engine: Engine, turns: Turns, locks_queue: bool, limit: int | None
) -> None:
    """Each look falls between two jobs, and finds the lock free, and room under the limit."""
    jobs = [overflowing(ledger, queue_name="q", locks_queue=locks_queue) for _ in range(14)]
    if limit is not None:
        ledger.limits.set(parse_scope("queue:q"), lambda bounds: changed_bounds(bounds, limit))
    turns()
    age(engine, 3600)
    looks = 0
    for count in range(1, 13):
        claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, None)
        if count % (limit or 1) == 0:
            turns()
            looks += 1
    assert looks >= 6
    assert {row(ledger, job).runner for job in jobs} == {LANE_RUNNER}
    turns(20)
    assert [row(ledger, job).runner for job in jobs[-2:]] == [LANE_RUNNER] * 2, "22 s since the last claim was seen"
    turns(20)
    assert [row(ledger, job).runner for job in jobs[-2:]] == ["kubernetes"] * 2, "no worker is left"


def test_a_job_moves_beside_busy_workers_whose_claims_leave_room_under_the_limit(
    ledger: SqlLedger, engine: Engine, turns: Turns
) -> None:
    jobs = [overflowing(ledger) for _ in range(9)]
    ledger.limits.set(parse_scope("all"), lambda bounds: changed_bounds(bounds, 50, "1000/s"))
    age(engine, 3600)
    turns()
    assert row(ledger, jobs[-1]).runner == "kubernetes", "nothing is known of the time before sync's start"
    again = [overflowing(ledger) for _ in range(9)]
    age(engine, 3600)
    assert claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE) is not None
    turns()
    assert row(ledger, again[-1]).runner == "kubernetes"


def test_jobs_that_may_not_move_yet_do_not_keep_others_from_it(ledger: SqlLedger, engine: Engine, turns: Turns) -> None:
    """More than sync moves at a time."""
    options = JobOptions(lane="worker", overflow_seconds=30.0)
    ledger.insert_many([of_lane("worker", options=options, job_type="paused") for _ in range(250)])
    free, scope = overflowing(ledger), parse_scope("type:paused")
    ledger.limits.pause(scope, "the carrier is down")
    turns()
    ledger.limits.resume(scope)
    age(engine, 60)
    turns()
    assert row(ledger, free).runner == "kubernetes"


def test_a_job_that_is_tried_again_waits_for_a_worker_from_then_on(
    ledger: SqlLedger, engine: Engine, turns: Turns
) -> None:
    job = overflowing(ledger)
    age(engine, 60)
    claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
    assert claim is not None
    ledger.fail(claim.token, Failure("RetryLater", retry_after_seconds=0.0), decide=True)
    turns()
    assert row(ledger, job).runner == LANE_RUNNER


def test_a_job_of_the_lane_that_no_worker_starts_in_time_fails(ledger: SqlLedger, engine: Engine, turns: Turns) -> None:
    in_time = JobOptions(lane="worker", start_timeout_seconds=600)
    late, soon = (ledger.insert(of_lane("worker", options=in_time)) for _ in range(2))
    with engine.begin() as connection:
        connection.execute(update(job_request).where(job_request.c.id == late.id).values(start_by=clock_after(-1)))
    turns()
    assert (row(ledger, late).state, row(ledger, late).cause) == (JobState.FAILED, "StartTimeout")
    assert row(ledger, soon).state is JobState.WAITING
