"""Sync beside the workers of the lane `worker`: their jobs get no SpokeJob."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from sqlalchemy import Engine, update
from tests.contract.ledger import LEASE, claim_one
from tests.contract.ledger_lanes import of_lane
from tests.unit.sync.engine_writer import EngineWriter
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptUsage, Failure, JobOptions, JobRequest, JobState
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.writer import Writer

Turns = Callable[..., None]


@pytest.fixture
def engine(sqlite_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(sqlite_ledger_url)
    yield made
    made.dispose()


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    return SqlLedger(engine)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def turns(engine: Engine, cluster: FakeCluster) -> Iterator[Turns]:
    """Sync: each call lets it do everything that it does at intervals, twice."""
    now = 100.0
    intervals = Intervals(launch=1, progress=1, compare=1, strays=1, prune=1, patience=0)
    writer, api = cast(Writer, EngineWriter(engine)), cast(SpokeJobClient, cluster)
    loop = LeaderLoop(writer, api, SyncHealth(), intervals, lambda: now)

    def turns(seconds: float = 4.0) -> None:
        nonlocal now
        for _ in range(2):
            now += seconds / 2
            loop.turn()

    yield turns
    loop._outputs.close()


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


def test_a_job_of_the_lane_that_no_worker_starts_in_time_fails(ledger: SqlLedger, engine: Engine, turns: Turns) -> None:
    in_time = JobOptions(lane="worker", start_timeout_seconds=600)
    late, soon = (ledger.insert(of_lane("worker", options=in_time)) for _ in range(2))
    with engine.begin() as connection:
        connection.execute(update(job_request).where(job_request.c.id == late.id).values(start_by=clock_after(-1)))
    turns()
    assert (row(ledger, late).state, row(ledger, late).cause) == (JobState.FAILED, "StartTimeout")
    assert row(ledger, soon).state is JobState.WAITING
