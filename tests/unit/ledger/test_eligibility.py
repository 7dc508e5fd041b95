"""The conditions under which a job may start, on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger_eligibility import EligibilityContract

from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestSqliteEligibility(EligibilityContract):
    @pytest.fixture
    def ledger(self, sqlite_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(sqlite_ledger_url)
