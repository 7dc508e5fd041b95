"""Rows of an application that refer to a job, in a transaction that is still open, hold up nothing of the job.

Its foreign key locks the job's row in the mode FOR KEY SHARE until the transaction's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, text
from tests.contract.ledger import LEASE, SHORT, claim_next, new_job
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure

END = Failure("TimedOut", "it took too long", for_good=True)
AGAIN = Failure("Killed", "again")


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[SqlLedger]:
    """Whatever waits for a lock fails."""
    engine = create_engine(postgres_ledger_url, connect_args={"options": "-c lock_timeout=3s"})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE report (job_id bigint NOT NULL REFERENCES job_request (id))"))
    yield SqlLedger(engine)
    engine.dispose()


@pytest.fixture
def held(ledger: SqlLedger) -> Iterator[Callable[[int], None]]:
    """Refers to a job, in a transaction that ends with the test."""
    with ledger.engine.connect() as connection:
        yield lambda job_id: _refer(connection, job_id)
        connection.rollback()


def _refer(connection: Connection, job_id: int) -> None:
    connection.execute(text("INSERT INTO report VALUES (:id)"), {"id": job_id})


ENDS: dict[str, Callable[[SqlLedger, Claim], object]] = {
    "its end": lambda ledger, claim: ledger.fail(claim.token, END, decide=True),
    "its next attempt": lambda ledger, claim: ledger.fail(claim.token, AGAIN, decide=True),
    "its cancellation": lambda ledger, claim: ledger.cancel(claim.job.id),
    "its release": lambda ledger, claim: ledger.release(claim.token),
    "its success": lambda ledger, claim: ledger.succeed(None, claim.token, None),
}


def test_a_row_that_refers_to_a_job_does_not_delay(ledger: SqlLedger, held: Callable[[int], None]) -> None:
    """Neither an end, nor the reaper, nor the claim of a pod."""
    for end in ENDS.values():
        ledger.insert(new_job())
        claim = claim_next(ledger)
        held(claim.job.id)
        end(ledger, claim)
        ledger.cancel(claim.job.id)  # what is tried again
    job = ledger.insert(new_job())
    claim_next(ledger, lease=SHORT)
    held(job.id)
    eventually(lambda: [found.id for found in ledger.reap("legacy")] == [job.id])
    in_pod = ledger.insert(new_job(runner="kubernetes"))
    held(in_pod.id)
    assert isinstance(ledger.claim(in_pod.id, in_pod.uid, 1, 1, "pod", LEASE), Claim)
