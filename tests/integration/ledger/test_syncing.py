"""What sync writes for the cluster, concurrently with other writers, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger import syncing
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import FailedJob, Failure, JobFilter, JobOptions, JobRequest, JobState


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    engine = create_engine(request.getfixturevalue(f"{request.param}_ledger_url"))
    yield SqlLedger(engine)
    engine.dispose()


def job_with_hook(ledger: SqlLedger) -> JobRequest:
    return ledger.insert(new_job(runner="kubernetes", options=JobOptions(on_failure="tell")))


def fail_job(ledger: SqlLedger, job: JobRequest, failure: Failure) -> bool:
    with ledger.engine.begin() as connection:
        return syncing.fail_job(connection, job, failure)


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
    ended = ledger.get(job.id)
    assert ended is not None
    assert (ended.state, ended.cause) == (JobState.FAILED, "ImageUnavailable")
    assert len(ledger.list_jobs(9, JobFilter(job_type="tell"))) == 1


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
    ended = ledger.get(job.id)
    assert ended is not None
    assert (ended.state, ended.cause) == (JobState.FAILED, "Cancelled")
    assert ledger.list_jobs(9, JobFilter(job_type="tell")) == []


def test_an_older_run_s_outcome_changes_nothing(ledger: SqlLedger) -> None:
    job = job_with_hook(ledger)
    ledger.cancel(job.id)
    again = ledger.retry(job.id)
    assert not fail_job(ledger, job, Failure("NodeLost"))
    assert ledger.get(job.id) == again
