"""The outbox keeps its contract on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from tests.contract.outbox import OutboxContract

from spoke_jobs.ledger.engine import create_engine


@pytest.fixture
def engine(sqlite_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(sqlite_ledger_url)
    yield made
    made.dispose()


class TestOutbox(OutboxContract):
    pass
