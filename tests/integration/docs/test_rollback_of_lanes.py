"""The page on upgrading: the statement that lets jobs of the lane `worker` run in pods before a rollback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.contract.ledger_lanes import of_lane

from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobState

PAGE = Path(__file__).parents[3] / "docs" / "upgrading.md"


def statement() -> str:
    (found,) = [block for block in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) if LANE_RUNNER in block]
    return found


@pytest.fixture(params=["sqlite_ledger_url", "postgres_ledger_url"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = create_engine(request.getfixturevalue(request.param))
    yield made
    made.dispose()


def test_sync_launches_the_jobs_of_the_lane_afterwards(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    tried = ledger.insert(of_lane("worker"))
    claim = claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE)
    assert claim is not None
    ledger.fail(claim.token, Failure("JobError"), decide=True)
    new = ledger.insert(of_lane("worker"))
    behind = ledger.insert(of_lane("worker", after=(new.id,)))
    running = ledger.insert(of_lane("worker", priority=9))
    assert claim_one(ledger, LANE_RUNNER, ["report"], "w", LEASE) is not None
    elsewhere = ledger.insert(new_job())
    with engine.begin() as connection:
        connection.exec_driver_sql(statement())
        launched = {row[0].id for row in syncing.unlaunched(connection, 0.0, (), 100)}
    rows = {job.id: job for job in map(ledger.get, (tried.id, new.id, behind.id, running.id, elsewhere.id)) if job}
    assert launched - {tried.id} == {new.id}, "the one that was tried may wait for its backoff"
    assert (rows[tried.id].run, rows[tried.id].attempt, rows[new.id].run) == (2, 0, 1)
    assert (rows[behind.id].runner, rows[behind.id].state) == (CLUSTER_RUNNER, JobState.BLOCKED)
    assert (rows[running.id].runner, rows[elsewhere.id].runner) == (LANE_RUNNER, "legacy")
