"""Notices about failed jobs on SQLite."""

from __future__ import annotations

import pytest
from tests.contract.notices import NoticeContract


class TestSqliteNotices(NoticeContract):
    @pytest.fixture
    def ledger_url(self, sqlite_ledger_url: str) -> str:
        return sqlite_ledger_url
