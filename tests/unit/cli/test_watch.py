"""The command line before a terminal and a pipe, on SQLite (on PostgreSQL: tests/integration/cli)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.watching import WatchingContract

from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestOnSqlite(WatchingContract):
    @pytest.fixture
    def url(self, sqlite_ledger_url: str) -> str:
        return sqlite_ledger_url

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(url)
