"""The conditions under which a job may start, on PostgreSQL (on SQLite: tests/unit/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger_eligibility import EligibilityContract

from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestPostgresqlEligibility(EligibilityContract):
    @pytest.fixture
    def ledger(self, postgres_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(postgres_ledger_url)
