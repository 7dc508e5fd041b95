"""The dashboard on PostgreSQL, and what only a server does: timeouts of statements, locks, roles, sync's lock."""

from __future__ import annotations

import asyncio
import re

import pytest
from sqlalchemy import create_engine, text
from tests.contract.browser import Browser
from tests.contract.dashboard import DashboardContract
from tests.contract.dashboard_api import ApiContract
from tests.contract.dashboard_backfills import BackfillsContract
from tests.contract.dashboard_batches import AuditContract, BatchesContract
from tests.contract.dashboard_bulk import BulkContract
from tests.contract.dashboard_failures import FailuresContract
from tests.contract.dashboard_job import JobPageContract
from tests.contract.dashboard_job_list import JobListContract
from tests.contract.dashboard_mutes import MutesContract
from tests.contract.dashboard_overview import OverviewContract
from tests.contract.dashboard_queues import QueuesContract
from tests.contract.dashboard_scene import API_ROUTES, EVERYBODY, HOST, Open, token_in
from tests.contract.dashboard_schedules import SchedulesContract
from tests.contract.dashboard_tasks import TasksContract
from tests.contract.ledger import new_job
from tests.waiting import patient

from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.notify import TASKS_CHANNEL, listen
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.sync.writer import Writer
from spoke_jobs.web import app, change_stream, dashboard
from spoke_jobs.web.api_document import PROBLEM
from spoke_jobs.web.change_stream import BEGIN, EVENT, ChangeStream


class TestPostgresqlOverview(OverviewContract): ...


class TestPostgresqlApi(ApiContract): ...


class TestPostgresqlJobPage(JobPageContract): ...


class TestPostgresqlJobList(JobListContract): ...


class TestPostgresqlDashboard(DashboardContract):
    def test_a_dispatch_tells_browsers(
        self, ledger: SqlLedger, ledger_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(change_stream, "SOONEST_SECONDS", 0.0)
        monkeypatch.setattr(change_stream, "LATEST_SECONDS", patient(600))
        engine = dashboard.open_engine(ledger_url)
        stream = ChangeStream(engine)

        async def told() -> list[bytes]:
            events = stream.events(notified=True)
            async with asyncio.timeout(patient(60)):
                begin, connected = await anext(events), await anext(events)
                waits = asyncio.ensure_future(anext(events))
                ledger.notifier.notify()  # as a runner does after the commit of a dispatch
                return [begin, connected, await waits]

        try:
            assert asyncio.run(told()) == [BEGIN, EVENT, EVENT]
        finally:
            stream.close()
            ledger.notifier.notify()  # the connection that listens ends with the next notification
            engine.dispose()

    def test_its_statements_are_not_compiled(self, ledger_url: str) -> None:
        engine = dashboard.open_engine(ledger_url)
        with engine.begin() as connection:
            assert connection.scalar(text("SHOW jit")) == "off"
            assert connection.scalar(text("SHOW statement_timeout")) == "3s"
        engine.dispose()

    def test_a_slow_statement_ends_with_a_clear_message(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dashboard, "STATEMENT_SECONDS", 0.3)
        ledger.insert(new_job())
        browser = browse(EVERYBODY)
        assert browser.get("/jobs").status_code == 200
        with ledger.engine.begin() as connection:  # each read of a row now takes a second
            connection.execute(text("ALTER TABLE job_request RENAME TO job_request_rows"))
            connection.execute(
                text("CREATE VIEW job_request AS SELECT * FROM job_request_rows WHERE pg_sleep(1) IS NOT NULL")
            )
        answer = browser.get("/jobs")
        assert answer.status_code == 503
        assert "did not answer within 0.3 s" in answer.text
        answer = browser.get("/api/v1/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
        assert "did not answer within 0.3 s" in answer.json()["detail"]

    def test_a_locked_row_ends_with_a_clear_message(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dashboard, "_LOCK_SECONDS", 0.1)
        job = ledger.insert(new_job())
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        token = token_in(browser.get(path))
        with ledger.engine.begin() as connection:
            connection.execute(text("SELECT * FROM job_request FOR UPDATE"))
            answer = browser.post(f"{path}/cancel", data={"token": token})
        assert answer.status_code == 503
        assert "has locked what this changes" in answer.text
        assert ledger.get(job.id) == job

    def test_a_change_that_takes_too_long_says_that_nothing_was_changed(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pause waits for the claims in progress. It has no filters that could be narrower."""
        monkeypatch.setattr(dashboard, "STATEMENT_SECONDS", 0.3)
        browser = browse(EVERYBODY)
        fields = {"token": token_in(browser.get("/queues")), "scope": "all", "reason": "r", "hours": ""}
        with ledger.engine.begin() as connection:
            connection.execute(text("LOCK TABLE job_limit IN SHARE MODE"))
            answer = browser.post("/limits/pause", data=fields)
        assert answer.status_code == 503
        assert "Nothing was changed. Try again." in answer.text
        assert ledger.limits.all() == []

    def test_a_database_that_is_away_is_said_to_be(self, ledger: SqlLedger, ledger_url: str) -> None:
        name = ledger.engine.url.database
        with Browser(app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=ledger_url), HOST) as browser:
            assert browser.get("/").status_code == 200
            ledger.engine.dispose()
            admin = create_engine(ledger.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
                connection.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
                )
                answer = browser.get("/")
                connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
            admin.dispose()
            assert answer.status_code == 503
            assert "The database is away" in answer.text
            assert browser.get("/").status_code == 200

    def test_a_role_that_may_only_read_shows_pages_and_changes_nothing(
        self, role_urls: dict[Process, str], ledger: SqlLedger
    ) -> None:
        job, batch = ledger.insert(new_job()), ledger.open_batch("april")
        reader = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=role_urls[Process.READER])
        with Browser(reader, HOST) as browser:
            for path in (
                "/failures",
                "/queues",
                "/schedules",
                "/batches",
                "/tasks",
                "/cluster",
                "/audit",
                "/",
                "/jobs",
                *(path.format(job_id=job.id, batch_id=batch.id) for _, path in API_ROUTES),
                f"/jobs/{job.id}",
            ):
                page = browser.get(path)
                assert page.status_code == 200, path
            answer = browser.post(f"/jobs/{job.id}/cancel", data={"token": token_in(page)})
            assert answer.status_code == 503
            assert "role" in answer.text
        assert ledger.get(job.id) == job

    def test_whether_sync_is_active(
        self, ledger: SqlLedger, browse: Open, ledger_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.namespace_in", lambda _: NamespaceView("shop"))
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.waits_in", lambda _: SpokeJobWaits())
        browser = browse(EVERYBODY)
        assert "No sync is active. Jobs under" in browser.get("/cluster").text
        ledger.insert(new_job())
        assert '<th scope="row">sync</th>' not in browser.get("/").text
        assert "No sync is active" not in browser.get("/").text, "no job needs it"
        ledger.insert(new_job(runner="kubernetes"))
        page = browser.get("/").text
        assert "No sync is active" in page
        assert "Check that `spoke-jobs sync` runs" in browser.get("/cluster").text
        assert '<tr><th scope="row">sync</th><td></td><td>none is active</td><td></td><td></td><td></td></tr>' in page
        writer = Writer(ledger_url)
        assert writer.lead()
        page = browser.get("/").text
        (row,) = re.findall(r'<tr><th scope="row">sync</th>(.*?)</tr>', page)
        assert row.startswith("<td></td><td>alive</td><td></td><td><time "), "this role may know since when"
        assert row.count("<time ") == 2
        assert "No sync is active" not in page
        assert "Sync is active." in browser.get("/cluster").text
        writer.close()
        writer.engine.dispose()


class TestPostgresqlBulk(BulkContract): ...


class TestPostgresqlFailures(FailuresContract): ...


class TestPostgresqlMutes(MutesContract): ...


class TestPostgresqlQueues(QueuesContract): ...


class TestPostgresqlSchedules(SchedulesContract): ...


class TestPostgresqlBackfills(BackfillsContract): ...


class TestPostgresqlBatches(BatchesContract): ...


class TestPostgresqlTasks(TasksContract):
    def test_a_retry_wakes_the_task_deployment(self, ledger: SqlLedger, browse: Open) -> None:
        task = self.failed_task(ledger)
        wakes = listen(ledger.engine, TASKS_CHANNEL)
        assert wakes is not None
        with wakes:
            wakes.settimeout(patient(60))
            assert wakes.recv(16), "it listens"
            self.post(browse(EVERYBODY), f"/tasks/{task.id}/retry", f"/tasks/{task.id}")
            assert wakes.recv(16)


class TestPostgresqlAudit(AuditContract): ...
