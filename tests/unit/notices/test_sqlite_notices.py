"""Notices about failed jobs on SQLite."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event
from tests.contract.notice_counts import NoticeCountContract
from tests.contract.notice_scene import FakeSender
from tests.contract.notice_sending import NoticeSendingContract

from spoke_jobs.ledger.notices import notice_rows
from spoke_jobs.ledger.notices.notice_values import FailureGroup, GroupName
from spoke_jobs.ledger.sql_ledger import SqlLedger


class TestSqliteNotices(NoticeCountContract, NoticeSendingContract):
    @pytest.fixture
    def ledger_url(self, sqlite_ledger_url: str) -> str:
        return sqlite_ledger_url

    def test_many_groups_take_several_statements(self, ledger: SqlLedger, sender: FakeSender) -> None:
        """Databases bound a statement's parameters. A family of types may have a group for each job."""
        now, channel = self.now(ledger), sender.channel.value
        groups = [FailureGroup(GroupName(f"in.{number}", "JobError", ""), now, now, number) for number in range(4_001)]
        numbers: list[int] = []

        @event.listens_for(ledger.engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
            numbers.append(0 if many else len(parameters))

        with ledger.engine.begin() as connection:
            for _ in range(2):
                notice_rows.write_groups(connection, channel, groups)
            assert len(notice_rows.groups_of(connection, channel, [group.name for group in groups[:3]])) == 3
        assert 1_000 < max(numbers) < 2_100
