"""What `why` and `watch` read, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.conftest import open_ledger
from tests.contract.looking import LookingContract

from spoke_jobs.ledger.looking import Looking
from spoke_jobs.ledger.sql import SqlLedger


class TestPostgresqlLooking(LookingContract):
    @pytest.fixture
    def ledger(self, postgres_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(postgres_ledger_url)

    def test_it_can_write_nothing(self, looking: Looking) -> None:
        with looking._reading() as connection, pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text("DELETE FROM job_request"))
