"""What sync writes for the cluster, concurrently with other writers, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.ledger import LEASE, SHORT, claim_one, new_job
from tests.waiting import eventually

from spoke_jobs.ledger import reports, syncing
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptReport, Claim, FailedJob, Failure, JobFilter, JobOptions, JobRequest, JobState


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
    claim = claim_one(ledger, "kubernetes", ["report"], "pod", LEASE)
    assert claim is not None
    ledger.succeed(None, claim.token, None)
    assert launches() == [lenient.id]


@pytest.mark.parametrize("text", ["Job\x00Error", "Job\ud800Error"])
@pytest.mark.parametrize("final", [True, False])
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
    ended = ledger.get(job.id)
    assert ended is not None
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
    with ledger.engine.begin() as connection:
        assert reports.record(connection, job, AttemptReport(1, 1, "DatabaseUnreachable"))
    assert [item.cause for item in ledger.attempts(job.id)] == [own_cause or "DatabaseUnreachable", ""]


@pytest.mark.parametrize(("cause", "place"), [("JobError", "KeyError@shop.f"), ("OutOfMemory", "")])
def test_an_outcome_with_the_cause_of_the_last_attempt_keeps_its_fingerprint(
    ledger: SqlLedger, cause: str, place: str
) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    claim = ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE)
    assert isinstance(claim, Claim)
    ledger.fail(claim.token, Failure("JobError", "KeyError: 'x'", fingerprint="KeyError@shop.f"), decide=False)
    with ledger.engine.begin() as connection:
        assert syncing.fail_job(connection, job, Failure(cause, "of the cluster"))
    row = ledger.get(job.id)
    assert row is not None
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
