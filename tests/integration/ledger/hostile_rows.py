"""Write rows that only other code writes, and read what follows: for the tests of hostile rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, new_job, present

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState

LARGEST = 2**31 - 1


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    yield from open_ledger(request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_ledger_url"))


BOTH = pytest.mark.parametrize("ledger", ["sqlite", "postgres"], indirect=True)
"""Where claims, numbers or JSON differ. What is the same code is tested on SQLite."""
POSTGRESQL = pytest.mark.parametrize("ledger", ["postgres"], indirect=True)


def write(ledger: SqlLedger, statement: str, **values: object) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text(statement), values)


def two(ledger: SqlLedger, runner: str = "legacy", **changes: object) -> tuple[int, int]:
    return tuple(ledger.insert(new_job(runner=runner, **changes)).id for _ in range(2))  # type: ignore[return-value]


def claimed(ledger: SqlLedger, lease: float = LEASE) -> dict[int, int]:
    return {claim.job.id: claim.number for claim in ledger.claim_batch("legacy", ["report"], "w", lease, 9)}


def end_of(ledger: SqlLedger, job_id: int) -> tuple[JobState, str]:
    job = present(ledger.get(job_id))
    return job.state, job.cause
