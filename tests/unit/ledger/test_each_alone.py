"""A row that can't be read keeps no other job from being reaped or expired."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from tests.contract.ledger import SHORT, claim_one, new_job
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions, JobState


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    engine = create_engine(sqlite_ledger_url)
    yield SqlLedger(engine)
    engine.dispose()


def spoil(ledger: SqlLedger, job_id: int) -> None:
    """Store options that are no JSON, as other code may."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE job_request SET options = '[1' WHERE id = :id"), {"id": job_id})


REFUSED = (
    "CREATE TRIGGER refuses BEFORE UPDATE ON job_request WHEN OLD.queue_name = 'spoilt' "
    "BEGIN SELECT RAISE(ABORT, 'refused'); END"
)
SPOIL = {
    "options": "UPDATE job_request SET options = '[1]' WHERE queue_name = 'spoilt'",
    "token": (
        "UPDATE job_attempt SET token = 'no token ' || id "
        "WHERE job_id IN (SELECT id FROM job_request WHERE queue_name = 'spoilt')"
    ),
    "refused": REFUSED,
}
"""What other code may do to a row, or to the table."""


def test_a_row_that_cannot_be_read_keeps_no_other_attempt_from_being_reaped(ledger: SqlLedger) -> None:
    jobs = [ledger.insert(new_job()) for _ in range(2)]
    for _ in jobs:
        assert claim_one(ledger, "legacy", ["report"], "worker", SHORT) is not None
    spoil(ledger, jobs[0].id)
    reaped: set[int] = set()
    eventually(lambda: bool(reaped.update(job.id for job in ledger.reap("legacy")) or jobs[1].id in reaped))


def test_a_row_that_cannot_be_read_keeps_no_other_job_from_expiring(ledger: SqlLedger) -> None:
    jobs = [ledger.insert(new_job(options=JobOptions(start_timeout_seconds=0.05))) for _ in range(2)]
    spoil(ledger, jobs[0].id)
    expired: dict[int, JobState] = {}

    def has_expired() -> bool:
        expired.update({job.id: job.state for job in ledger.expire_starts("legacy", ["report"])})
        return jobs[1].id in expired

    eventually(has_expired)
    assert expired[jobs[1].id] is JobState.FAILED


@pytest.mark.parametrize("spoilt", SPOIL)
def test_lapsed_rows_that_cannot_be_changed_fill_no_batch_of_the_reaper(ledger: SqlLedger, spoilt: str) -> None:
    """There are more of them than one batch takes, and their leases lapsed first."""
    for _ in range(7):
        ledger.insert(new_job(queue_name="spoilt"))
    assert len(ledger.claim_batch("legacy", ["report"], "worker", SHORT, 7)) == 7
    good = ledger.insert(new_job())
    assert claim_one(ledger, "legacy", ["report"], "worker", SHORT) is not None
    with ledger.engine.begin() as connection:
        connection.execute(text(SPOIL[spoilt]))
    reaped: set[int] = set()
    eventually(lambda: bool(reaped.update(job.id for job in ledger.reap("legacy", limit=3)) or good.id in reaped))


def test_overdue_rows_that_cannot_be_changed_fill_no_batch_of_the_expiry(ledger: SqlLedger) -> None:
    overdue = JobOptions(start_timeout_seconds=0.02)
    for _ in range(7):
        ledger.insert(new_job(queue_name="spoilt", options=overdue))
    good = ledger.insert(new_job(options=overdue))
    with ledger.engine.begin() as connection:
        connection.execute(text(REFUSED))
    expired: set[int] = set()

    def has_expired() -> bool:
        expired.update(job.id for job in ledger.expire_starts("legacy", ["report"], limit=3))
        return good.id in expired

    eventually(has_expired)
