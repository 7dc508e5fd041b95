"""Notices about failed jobs on PostgreSQL, and what only a server does: concurrent transactions, roles, locks."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from sqlalchemy import func, update
from tests.contract.notice_counts import NoticeCountContract
from tests.contract.notice_scene import FakeSender
from tests.contract.notice_sending import NoticeSendingContract
from tests.waiting import patient

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.notices import notice_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.notices.notice_pass import Identity, PassResult, take_pass


class TestPostgresqlNotices(NoticeCountContract, NoticeSendingContract):
    @pytest.fixture
    def ledger_url(self, postgres_ledger_url: str) -> str:
        return postgres_ledger_url

    def test_a_failure_whose_transaction_was_open_during_a_look_is_reported(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        job_id = self.fail(ledger)
        self.take(ledger, sender, me)
        with ledger.engine.begin() as connection:
            ended = {"state": "failed", "cause": "Timeout", "finished_at": func.clock_timestamp(), "run": 7}
            connection.execute(update(job_request).where(job_request.c.id == job_id).values(ended))
            assert self.take(ledger, sender, me).sent == 0, "it is not committed"
        assert self.take(ledger, sender, me).sent == 1
        assert sender.groups()[1:] == [[("new", "report", 1)]]

    def test_a_frozen_process_keeps_nobody_waiting(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        """It stopped within a transaction that has locked the channel's row."""
        self.take(ledger, sender, me)
        with ledger.engine.connect() as connection:
            assert notice_rows.hold(connection, "webhook", me.token, me.name) is not None
            assert self.take(ledger, sender, Identity(uuid4(), "two")) == PassResult(held=False)

    def test_of_many_processes_one_sends(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        ids = [self.fail(ledger) for _ in range(3)]
        together = threading.Barrier(4)
        with ledger.engine.begin() as connection:
            notice_rows.release(connection, "webhook", me.token)
        results: list[PassResult] = []

        def run(name: str) -> None:
            together.wait(patient(30))
            results.append(self.take(ledger, sender, Identity(uuid4(), name)))

        threads = [threading.Thread(target=run, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patient(60))
        assert [result.sent for result in results if result.held] == [1]
        assert sender.groups() == [[("new", "report", len(ids))]]

    def test_the_application_s_role_suffices(
        self, role_urls: dict[Process, str], ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        engine = create_engine(role_urls[Process.APPLICATION])
        take_pass(engine, sender, me, self.options())
        self.fail(ledger)
        assert take_pass(engine, sender, me, self.options()).sent == 1
        engine.dispose()
