"""What `why` and `watch` read, on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.commands import run_command
from tests.conftest import open_ledger
from tests.contract.ledger import new_job, succeed_new
from tests.contract.ledger_queries import QueriesContract

from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger

COSTS = Path(__file__).parents[3] / "docs/how-to/costs.md"


class TestPostgresqlQueries(QueriesContract):
    @pytest.fixture
    def ledger(self, postgres_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(postgres_ledger_url)

    def test_it_can_write_nothing(self, queries: Queries) -> None:
        with queries._reading() as connection, pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text("DELETE FROM job_request"))

    def test_a_pause_of_an_organization_that_no_job_can_have_is_a_warning(
        self, ledger: SqlLedger, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPOKE_DATABASE_URL", postgres_ledger_url)
        ledger.insert(new_job())
        result = run_command(["pause", "organization:4000000000", "--reason", "upgrade"])
        assert result.exit_code == 0, result.output
        assert "no stored job is of the organization 4000000000" in result.stderr

    def test_the_costs_of_attempts_are_summed_as_the_page_says(self, ledger: SqlLedger) -> None:
        (query,) = re.findall(r"```sql\n(.*?)```", COSTS.read_text(), re.S)
        for organization in (1, 1, 2):
            succeed_new(ledger, organization_id=organization)
        with ledger.engine.begin() as connection:
            connection.execute(text("UPDATE job_attempt SET claimed_at = finished_at - interval '30 minutes'"))
            found = [(*row[:3], round(row[3], 6)) for row in connection.execute(text(query))]
        assert found == [("report", 1, 2, 1), ("report", 2, 1, 0.5)]
