"""The progress of a job for an application's own users, on PostgreSQL, and what only a server does: roles, timeouts."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.contract.ledger import new_job
from tests.contract.progress import KEY, ProgressContract, Serve, following

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.web import dashboard


class TestPostgresqlProgress(ProgressContract):
    async def test_a_role_that_may_only_read_suffices(
        self, ledger: SqlLedger, serve: Serve, role_urls: dict[Process, str]
    ) -> None:
        app = serve(database=role_urls[Process.READER])
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        assert (await self.get(app, path)).json()["state"] == "waiting"
        async with following(app, f"{path}/events") as stream:
            assert (await stream.next())[0] == "progress"

    async def test_a_slow_database_is_asked_again_later(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dashboard, "STATEMENT_SECONDS", 0.3)
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        assert (await self.get(app, path)).status_code == 200
        with ledger.engine.begin() as connection:  # each read of a row now takes a second
            connection.execute(text("ALTER TABLE job_request RENAME TO job_request_rows"))
            connection.execute(
                text("CREATE VIEW job_request AS SELECT * FROM job_request_rows WHERE pg_sleep(1) IS NOT NULL")
            )
        answer = await self.get(app, path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
