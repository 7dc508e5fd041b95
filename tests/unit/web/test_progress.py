"""The progress of a job for an application's own users, on SQLite, and what does not depend on the database."""

from __future__ import annotations

import logging
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.contract.ledger import new_job
from tests.contract.progress import KEY, OTHER, ProgressOnSqlite, Serve

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.reading.progress_queries import ReportedProgress
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState
from spoke_jobs.shared.secret_file import SecretFile
from spoke_jobs.web import progress
from spoke_jobs.web.progress_app import ALIVE, ALIVE_SECONDS, GONE
from spoke_jobs.web.progress_reads import shown_progress

PAGE = "https://app.test:8443"


class TestSqliteProgress(ProgressOnSqlite):
    async def test_only_pages_of_listed_origins_may_read(self, ledger: SqlLedger, serve: Serve) -> None:
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        app = serve(origins=[PAGE])
        for each in (path, "/nonsense", "/progress.js"):
            answer = await self.get(app, each, Origin=PAGE)
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers
            for origin in ("https://evil.test", "null", f"{PAGE}.evil.test", "http://app.test:8443"):
                refused = await self.get(app, each, Origin=origin)
                assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in (await self.get(serve(), path, Origin=PAGE)).headers

    @pytest.mark.parametrize(
        "origin", ["*", "app.test", "https://app.test/", "https://app.test/x", "https://*.test", ""]
    )
    def test_an_origin_that_is_none_is_refused(self, ledger_url: str, origin: str) -> None:
        with pytest.raises(ConfigurationError, match="is no origin"):
            progress(key=KEY, database=ledger_url, origins=[origin])

    @pytest.mark.parametrize("origin", ["http://localhost:8000", "https://app.example.com", "http://[::1]:8000"])
    async def test_an_origin_is_written_as_a_browser_does(self, serve: Serve, origin: str) -> None:
        answer = await self.get(serve(origins=[origin]), "/progress.js", Origin=origin)
        assert answer.headers["access-control-allow-origin"] == origin

    async def test_every_answer_has_the_headers(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        for each in (path, "/nonsense", "/nonsense/events", "/a/b/c"):
            headers = (await self.get(app, each)).headers
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer", "the address has the token"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "set-cookie" not in headers
        script = await self.get(app, "/progress.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert script.headers["cross-origin-resource-policy"] == "cross-origin", "any page may load it"

    async def test_a_slash_too_many_sends_the_token_nowhere(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        for each in (f"{path}/", f"{path}/events/", "/progress.js/"):
            answer = await self.get(app, each)
            assert answer.status_code == 404
            assert "location" not in answer.headers

    async def test_nothing_can_be_changed(self, ledger: SqlLedger, serve: Serve) -> None:
        app = serve()
        path = f"/{ledger.insert(new_job()).progress_token(key=KEY)}"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            for each in (path, f"{path}/events", "/progress.js"):
                assert (await self.get(app, each, method)).status_code == 405
        assert (await self.get(app, f"{path}/events", "HEAD")).status_code == 405

    async def test_an_unexpected_error_says_nothing_about_itself(
        self, ledger: SqlLedger, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("a secret")

        monkeypatch.setattr("spoke_jobs.web.progress_app.read_token", broken)
        transport = httpx.ASGITransport(app=serve(), raise_app_exceptions=False)  # the server logs the exception
        async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as client:
            answer = await client.get("/x")
        assert answer.status_code == 500
        assert "a secret" not in answer.text
        assert answer.headers["cache-control"] == "no-store"

    async def test_it_is_mounted_in_an_application(self, ledger: SqlLedger, serve: Serve) -> None:
        site: Any = Starlette(routes=[Mount("/progress", serve())])
        path = f"/progress/{ledger.insert(new_job()).progress_token(key=KEY)}"
        assert (await self.get(site, path)).json()["state"] == "waiting"
        assert (await self.get(site, "/progress/progress.js")).status_code == 200

    async def test_a_changed_file_of_keys_is_used_without_a_restart(
        self, ledger: SqlLedger, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "keys"
        file.write_text(KEY)
        app = serve(key=SecretFile(str(file)))
        job = ledger.insert(new_job())
        one, another = job.progress_token(key=KEY), job.progress_token(key=OTHER)
        file.write_text(f"{OTHER}\n{KEY}")
        assert (await self.get(app, f"/{one}")).status_code == 200
        assert (await self.get(app, f"/{another}")).status_code == 200
        file.write_text(f"{OTHER}")
        assert (await self.get(app, f"/{one}")).status_code == 404
        file.write_text("short")
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                assert (await self.get(app, f"/{another}")).status_code == 200, "the last keys stay in use"
        assert len(caplog.records) == 1
        assert "short" not in caplog.text.replace("the shortest", "")


def test_without_a_key_it_is_not_made(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    with pytest.raises(ConfigurationError, match="SPOKE_PROGRESS_KEY is not set"):
        progress()
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", "short")
    with pytest.raises(ConfigurationError, match="at least 32 characters"):
        progress()
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", KEY)
    progress().close()


class TestElement:
    """What `progress.js` and the server must agree on, and what it must not do."""

    script = files("spoke_jobs.web").joinpath("static", "progress.js").read_text()

    def test_it_is_small(self) -> None:
        assert len(self.script) < 8000

    def test_it_makes_no_markup_from_texts_and_runs_none(self) -> None:
        """So hostile texts are inert, and it works under a strict Content-Security-Policy and Trusted Types."""
        sinks = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment|eval\(|Function\("
        )
        assert re.findall(sinks, self.script) == []
        assert re.findall(r"""setAttribute\(["'](?:style|on|href|src)|createElement\(["']style""", self.script) == []
        assert re.findall(r"import\b|require\(|https?://", self.script) == [], "it needs nothing else"

    def test_it_has_a_text_for_every_state(self) -> None:
        texts = set(re.findall(r"^    (\w+): \"[^\"]+\",$", self.script, re.MULTILINE))
        states = {shown_progress(ReportedProgress(1, state, 0, "", ""), messages=False).state for state in JobState}
        assert texts == states | {"gone", "ended"}

    def test_it_knows_every_event(self) -> None:
        listened = set(re.findall(r'source\.addEventListener\("(\w+)"', self.script))
        sent = {chunk.decode().partition("\n")[0].removeprefix("event: ") for chunk in (ALIVE, GONE)}
        assert listened == sent | {"progress", "error"}

    def test_it_takes_a_stream_for_lost_only_after_two_signs_of_life_are_missing(self) -> None:
        found = re.search(r"SILENCE_MS = (\d+);", self.script)
        assert found is not None
        assert int(found[1]) >= 2 * ALIVE_SECONDS * 1000
