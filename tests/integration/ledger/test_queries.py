"""What `why` and `watch` read, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.conftest import open_ledger
from tests.contract.ledger_queries import QueriesContract

from spoke_jobs.ledger.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestPostgresqlLooking(QueriesContract):
    @pytest.fixture
    def ledger(self, postgres_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(postgres_ledger_url)

    def test_it_can_write_nothing(self, queries: Queries) -> None:
        with queries._reading() as connection, pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text("DELETE FROM job_request"))
