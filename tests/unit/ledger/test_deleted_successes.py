"""With SPOKE_FINISHED=delete, the row of a successful job goes at once, whatever its retention. Others stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session
from tests.contract.ledger import LEASE, new_job
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobOptions


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    engine = create_engine(sqlite_ledger_url)
    yield SqlLedger(engine, keeps_successes=False)
    engine.dispose()


def claims(ledger: SqlLedger, count: int) -> list[Claim]:
    for _ in range(count):
        ledger.insert(new_job(options=JobOptions(retention_seconds=3600)))
    return list(ledger.claim_batch("legacy", ["report"], "worker", LEASE, count))


def test_only_rows_of_successful_jobs_go(ledger: SqlLedger) -> None:
    one, other, failed, running = claims(ledger, 4)
    ledger.succeed_many({one.token: None})
    with Session(ledger.engine) as session:
        ledger.succeed(session, other.token, {"rows": 1})
        session.commit()
    ledger.fail(failed.token, Failure("JobError", "no such document", for_good=True), decide=True)
    gone: list[int] = []
    eventually(lambda: bool(gone.append(ledger.prune()) or sum(gone) == 2))
    assert {job.id for job in ledger.list_jobs()} == {failed.job.id, running.job.id}
