"""The SQL ledger keeps the contract on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger_contract import LedgerContract

from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, sqlite_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(sqlite_ledger_url)
