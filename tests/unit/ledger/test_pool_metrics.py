"""The use of a process's connections to the database."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.pool_metrics import PoolUse, pool_use


def test_a_connection_is_used_until_it_is_given_back(sqlite_ledger_url: str) -> None:
    engine = create_engine(sqlite_ledger_url, pool_size=2, max_overflow=3)
    assert pool_use(engine) == PoolUse(0, 0, 5)
    with engine.connect():
        assert pool_use(engine) == PoolUse(1, 0, 5)
    assert pool_use(engine) == PoolUse(0, 1, 5)
    engine.dispose()


@pytest.mark.parametrize(("options", "limit"), [({"pool_size": 0}, None), ({"pool_size": 2, "max_overflow": -1}, None)])
def test_a_pool_may_have_no_limit(sqlite_ledger_url: str, options: dict[str, int], limit: int | None) -> None:
    assert pool_use(create_engine(sqlite_ledger_url, **options)) == PoolUse(0, 0, limit)


def test_a_process_without_a_pool_reports_none(sqlite_ledger_url: str) -> None:
    assert pool_use(create_engine(sqlite_ledger_url, poolclass=NullPool)) is None
