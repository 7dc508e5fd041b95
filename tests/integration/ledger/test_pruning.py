"""Pruning while an application's own table refers to jobs, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from tests.contract.ledger import new_job
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    engine = create_engine(request.getfixturevalue(f"{request.param}_ledger_url"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (job_id bigint REFERENCES job_request (id))"))
    yield SqlLedger(engine)
    engine.dispose()


def test_a_job_that_is_referred_to_stays_and_keeps_no_other(ledger: SqlLedger) -> None:
    jobs = ledger.insert_many([new_job(options=JobOptions(retention_seconds=0)) for _ in range(5)])
    for job in jobs:
        ledger.cancel(job.id)
    referred = jobs[0].id  # the oldest: it would be first in every batch
    with ledger.engine.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (:id)"), {"id": referred})
    pruned: list[int] = []

    def others_are_gone() -> bool:
        pruned.append(ledger.prune(2))
        return [job.id for job in ledger.list_jobs()] == [referred]

    eventually(others_are_gone)
    assert sum(pruned) == 4
    assert ledger.prune() == 0
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM note"))
        connection.execute(text("UPDATE job_request SET expires_at = finished_at"))  # as a day later
    eventually(lambda: ledger.prune() == 1)
    assert ledger.list_jobs() == []


@pytest.mark.parametrize("older_than", [None, 0.001])
def test_a_whole_batch_that_stays_hides_nothing_behind_it(ledger: SqlLedger, older_than: float | None) -> None:
    jobs = ledger.insert_many([new_job(options=JobOptions(retention_seconds=0)) for _ in range(9)])
    for job in jobs:
        ledger.cancel(job.id)
    referred = [job.id for job in jobs[:6]]
    with ledger.engine.begin() as connection:
        for job_id in referred:
            connection.execute(text("INSERT INTO note VALUES (:id)"), {"id": job_id})
    eventually(lambda: ledger.prune(3, older_than_seconds=older_than) == 3)
    assert ledger.prune(3, older_than_seconds=older_than) == 0
    assert sorted(job.id for job in ledger.list_jobs()) == referred
