"""The conditions under which a job may start, on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger_eligibility import EligibilityContract

from spoke_jobs.ledger.claims.eligibility import CLAIMABLE, Due, OfRunner, OfTypes, QueueFree, Waiting
from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestSqliteEligibility(EligibilityContract):
    @pytest.fixture
    def ledger(self, sqlite_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(sqlite_ledger_url)


def test_a_condition_of_claims_has_a_text_for_why() -> None:
    """Without it, `why` would say of a job that the condition holds back that it is the next one.

    These it explains in ways of its own, or they depend on the worker.
    """
    assert {kind for kind in CLAIMABLE if kind.unmet is None} == {Waiting, OfRunner, Due, OfTypes, QueueFree}
