"""What a worker's scrapes read from the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_next, claim_one, new_job, present

from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading.failed_jobs import FailedJobs, failed_jobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import LimitFigures
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import Failure, JobRequest
from spoke_jobs.worker.worker_endpoint import LedgerReads


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    yield from open_ledger(request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_ledger_url"))


def failed(ledger: SqlLedger, cause: str = "JobError", **changes: object) -> JobRequest:
    job = ledger.insert(new_job(**changes))
    ledger.fail(claim_next(ledger, runner=job.runner).token, Failure(cause, for_good=True), decide=True)
    return job


def ended_ago(ledger: SqlLedger, seconds: float) -> None:
    """Let all ended jobs have ended that long ago."""
    with ledger.engine.begin() as connection:
        connection.execute(
            update(job_request).where(job_request.c.finished_at.is_not(None)).values(finished_at=clock_after(-seconds))
        )


def look(ledger: SqlLedger, since: datetime | None, runner: str = "legacy") -> FailedJobs:
    with ledger.engine.connect() as connection:
        return failed_jobs(connection, runner, since)


@pytest.mark.parametrize("ledger", ["sqlite", "postgres"], indirect=True)
def test_each_failure_is_counted_once_from_the_first_look_on(ledger: SqlLedger) -> None:
    failed(ledger)
    failed(ledger, "Cancelled")
    ended_ago(ledger, 100)
    begun = look(ledger, None)
    assert begun.count == 0, "what had failed before"
    since = begun.until - timedelta(seconds=60)
    assert look(ledger, since).count == 0
    ended_ago(ledger, 30)
    found = look(ledger, since)
    assert found.count == 1, "the other one was cancelled"
    assert look(ledger, found.until).count == 0
    assert look(ledger, since, "another").count == 0


def test_an_end_of_this_moment_waits_for_those_that_are_not_committed(ledger: SqlLedger) -> None:
    begun = look(ledger, None)
    failed(ledger)
    assert look(ledger, begun.until).count == 0


def test_time_that_goes_back_counts_nothing_twice(ledger: SqlLedger) -> None:
    ahead = datetime.fromisoformat("2999-01-01T00:00:00+00:00")
    assert look(ledger, ahead) == FailedJobs(0, ahead)


def test_limits_are_read_with_their_use_and_the_pauses(ledger: SqlLedger) -> None:
    reads = LedgerReads(ledger, "legacy")
    assert reads.limits() == LimitFigures((), {})
    ledger.insert(new_job(queue_name="mail"))
    assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is not None
    ledger.limits.set(parse_scope("each-queue"), lambda _: Bounds(max_running=3))
    ledger.limits.pause(parse_scope("type:report"), "an outage", by="sam")
    assert reads.limits() == LimitFigures((("each-queue", 3, 1),), {"type:report": "sam"})
    pool = present(reads.pool())
    assert (pool.used, pool.idle) == (0, 1)
