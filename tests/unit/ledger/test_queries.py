"""What `why` and `watch` read, on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger_queries import QueriesContract

from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestSqliteQueries(QueriesContract):
    @pytest.fixture
    def ledger(self, sqlite_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(sqlite_ledger_url)
