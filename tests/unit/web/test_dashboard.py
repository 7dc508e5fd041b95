"""The dashboard on SQLite, and what does not depend on the database."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from tests.conftest import open_ledger
from tests.contract.browser import Browser
from tests.contract.dashboard import DashboardPages
from tests.contract.dashboard_api import ApiDocuments
from tests.contract.dashboard_backfills import BackfillPages
from tests.contract.dashboard_batches import AuditPages, BatchPages
from tests.contract.dashboard_bulk import BulkPages
from tests.contract.dashboard_failures import FailurePages
from tests.contract.dashboard_job import JobPages
from tests.contract.dashboard_job_list import JobListPages
from tests.contract.dashboard_mutes import MutePages
from tests.contract.dashboard_overview import OverviewPages
from tests.contract.dashboard_queues import QueuePages
from tests.contract.dashboard_scene import API_ROUTES, EVERYBODY, HOST, ONE, ROUTES, TOKEN, Open, token_in
from tests.contract.dashboard_schedules import SchedulePages
from tests.contract.dashboard_tasks import TaskPages
from tests.contract.ledger import new_job

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure
from spoke_jobs.web import TokenSignIn, app
from spoke_jobs.web.answers import LATER, NARROWER
from spoke_jobs.web.api_document import PROBLEM
from spoke_jobs.web.dashboard import COOKIE


class TestSqliteOverview(OverviewPages): ...


class TestSqliteJobPage(JobPages): ...


class TestSqliteJobList(JobListPages): ...


class TestSqliteDashboard(DashboardPages):
    def test_another_host_is_refused(self, browse: Open) -> None:
        browser = browse(EVERYBODY)
        pages = [
            path.format(job_id=1, batch_id=1, task_id=1, mute_id=1)
            for method, path in (*ROUTES, *API_ROUTES)
            if method == "GET" and path != "/changes"
        ]
        for path in (*pages, "/static/dashboard.css", "/sign-in", "/nothing"):
            for host in ("evil.test", f"{HOST}.evil.test", f"evil.test:{HOST}", "", f"{HOST}@evil.test", f"{HOST}:x"):
                assert browser.get(path, headers={"Host": host}).status_code == 400, (path, host)
            assert browser.get(path, headers=[("Host", HOST), ("Host", "evil.test")]).status_code == 400
            assert (
                browser.get(path, headers={"Host": f"{HOST.upper()}:8443"}).status_code in (200, 404) or "bulk" in path
            )
        assert browser.get("/changes", headers={"Host": "evil.test"}).status_code == 400
        assert browser.get("/healthz", headers={"Host": "10.0.0.7"}).text == "ok\n", "a kubelet calls it by address"

    def test_every_answer_has_the_headers(self, browse: Open) -> None:
        browser = browse(EVERYBODY)
        api = [path.format(job_id=9, batch_id=9) for _, path in API_ROUTES]
        for path in ("/", "/jobs", "/jobs/9", "/nothing", "/static/dashboard.css", "/static/other", "/sign-in", *api):
            headers = browser.get(path).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"

    def test_a_stream_of_changes_holds_nothing_else(self, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.web.change_stream.STREAM_SECONDS", 0.0)
        for viewer in (EVERYBODY, ONE):
            answer = browse(viewer).get("/changes")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.text == "retry: 5000\n\n"
            assert "set-cookie" not in answer.headers
        assert browse(EVERYBODY).request("HEAD", "/changes").status_code == 405
        monkeypatch.setattr("spoke_jobs.web.change_stream.MOST_STREAMS", 0)
        assert browse(EVERYBODY).get("/changes").status_code == 503

    def test_live_pages_load_our_scripts_and_no_others(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        browser = browse(EVERYBODY)
        for path in (
            "/",
            "/jobs",
            f"/jobs/{job.id}",
            "/failures",
            "/queues",
            "/schedules",
            "/batches",
            "/tasks",
            "/cluster",
            "/audit",
        ):
            page = browser.get(path).text
            assert page.count('id="live"') == page.count('id="live-updates"') == page.count('id="keys"') == 1, path
            assert page.index('id="updates-wait"') < page.index('id="live"'), "what is replaced must not hold it"
            addresses = re.findall(r'<script defer src="([^"]+)"', page)
            names = [address.partition("?")[0].removeprefix("/static/") for address in addresses]
            assert names == ["htmx.min.js", "switches.js", "live.js", "keys.js", "zone.js"]
            for address in addresses:
                file = browser.get(address)
                assert file.headers["content-type"] == "text/javascript; charset=utf-8"
                assert "immutable" in file.headers["cache-control"]
                for query in ("", "?v=", "?v=0123456789ab"):  # the page may be of the next release
                    other = browser.get(address.partition("?")[0] + query)
                    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
        for path in ("/bulk/cancel?type=report", "/jobs/999", "/bulk/cancel", "/nothing"):
            assert "<script" not in browser.get(path).text, "what asks for a decision stays as it is"

    def test_commands_in_sentences_are_marked(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        assert f"then <code>spoke-jobs retry {job.id}</code>." in browse(EVERYBODY).get(f"/jobs/{job.id}").text

    @pytest.mark.parametrize(
        ("message", "shown"),
        [
            ("a ` <b>", "a ` &lt;b&gt;"),
            ("`<b>` ``", "<code>&lt;b&gt;</code> <code></code>"),
            ("`\u202e`", "<code>\\u202e</code>"),
        ],
    )
    def test_messages_of_jobs_are_marked_and_inert(
        self, ledger: SqlLedger, browse: Open, message: str, shown: str
    ) -> None:
        job = ledger.insert(new_job())
        ledger.fail(self.claimed(ledger).token, Failure("JobError", message, "E", "", for_good=True), decide=True)
        assert f"Its message: {shown}" in browse(EVERYBODY).get(f"/jobs/{job.id}").text

    def test_an_unexpected_error_says_nothing_about_itself(self, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("a secret")

        monkeypatch.setattr("spoke_jobs.web.pages.Pages.overview", broken)
        answer = browse(EVERYBODY).get("/")
        assert answer.status_code == 500
        assert "a secret" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        monkeypatch.setattr("spoke_jobs.web.api_views.listed_jobs", broken)
        answer = browse(EVERYBODY).get("/api/v1/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
        assert answer.json()["detail"] == "The dashboard's log has the error."
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    def test_a_result_that_utf_8_cannot_hold_spoils_no_list(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        ledger.succeed(None, self.claimed(ledger).token, {"name": "\udce9t"})
        (job,) = browse(EVERYBODY).get("/api/v1/jobs").json()["jobs"]
        assert job["result"] == {"name": "\ufffdt"}

    def test_an_error_of_the_database_is_a_problem_document(
        self, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Cancelled(Exception):
            sqlstate = "57014"

        def slow(*_: object) -> None:
            raise OperationalError("SELECT a secret", {}, Cancelled())

        monkeypatch.setattr("spoke_jobs.web.api_views.listed_jobs", slow)
        answer = browse(EVERYBODY).get("/api/v1/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
        assert answer.json() == {
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The database did not answer within 3 s, so the query was ended. Choose narrower filters: a "
            "type, a queue or an organization.",
        }

    @pytest.mark.parametrize(
        ("path", "query", "said"),
        [
            ("/", "DashboardQueries.crowd", LATER),
            ("/failures", "DashboardQueries.failures", LATER),
            ("/queues", "DashboardQueries.queues", LATER),
            ("/jobs", "DashboardQueries.page", NARROWER),
            ("/tasks?name=send", "OutboxQueries.page", "Wait until the database has less to do"),
        ],
    )
    def test_a_page_that_takes_too_long_advises_what_can_be_done_there(
        self, browse: Open, monkeypatch: pytest.MonkeyPatch, path: str, query: str, said: str
    ) -> None:
        class Cancelled(Exception):
            sqlstate = "57014"

        def slow(*_: object, **__: object) -> None:
            raise OperationalError("SELECT a secret", {}, Cancelled())

        monkeypatch.setattr(f"spoke_jobs.web.dashboard.{query}", slow)
        answer = browse(EVERYBODY).get(path)
        assert answer.status_code == 503
        assert f"so the query was ended. {said}" in answer.text


class TestSqliteApi(ApiDocuments): ...


class TestSqliteBulk(BulkPages): ...


class TestSqliteFailures(FailurePages): ...


class TestSqliteMutes(MutePages): ...


class TestSqliteQueues(QueuePages): ...


class TestSqliteSchedules(SchedulePages): ...


class TestSqliteBackfills(BackfillPages): ...


class TestSqliteBatches(BatchPages): ...


class TestSqliteTasks(TaskPages): ...


class TestSqliteAudit(AuditPages): ...


class TestSigningIn:
    @pytest.fixture
    def browser(self, sqlite_ledger_url: str) -> Iterator[Browser]:
        dashboard = app(authorize=TokenSignIn(TOKEN, EVERYBODY), hosts=[HOST], database=sqlite_ledger_url)
        with Browser(dashboard, HOST) as browser:
            yield browser

    def test_by_the_form_and_out_again(self, browser: Browser) -> None:
        assert browser.get("/").headers["location"] == "/sign-in"
        form = {"token": token_in(browser.get("/sign-in"))}
        wrong = browser.post("/sign-in", data=form | {"secret": "x" * 40})
        assert wrong.status_code == 403
        assert "This is not the token." in wrong.text
        assert browser.get("/").status_code == 303
        assert browser.post("/sign-in", data={"secret": TOKEN}).status_code == 403, "without the form's token"
        anonymous = browser.cookies["__Host-spoke_jobs_session"]
        answer = browser.post("/sign-in", data=form | {"secret": TOKEN})
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        # Not strict: a link in an alert would sign people out.
        for word in ("secure", "httponly", "samesite=lax", "path=/"):
            assert word in cookie
        assert TOKEN not in cookie
        assert browser.cookies["__Host-spoke_jobs_session"].partition(".")[0] != anonymous.partition(".")[0], "a new id"
        page = browser.get("/")
        assert "Jobs by state" in page.text
        assert browser.post("/sign-out", data={"token": "x"}).status_code == 403
        assert browser.post("/sign-out", data={"token": token_in(page)}).headers["location"] == "/sign-in"
        assert browser.get("/").status_code == 303

    def test_a_stream_of_events_is_refused_and_not_led_to_a_page(self, browser: Browser) -> None:
        """As of a page that is open while its session ends: a browser would read the page as events, and complain."""
        assert browser.get("/changes", headers={"Accept": "text/event-stream"}).status_code == 401

    def test_a_neighboring_host_signs_nobody_in(self, browser: Browser) -> None:
        """It can set cookies for the domain, but none whose name has the prefix."""
        form = {"token": token_in(browser.get("/sign-in")), "secret": TOKEN}
        browser.post("/sign-in", data=form)
        (session,) = browser.cookies.values()
        assert browser.get("/").status_code == 200
        browser.cookies.clear()
        browser.cookies.set("spoke_jobs_session", session)
        assert browser.get("/").headers["location"] == "/sign-in"

    def test_the_same_machine_has_no_neighbors(self, sqlite_ledger_url: str) -> None:
        """Some browsers refuse the prefix without TLS, also from `kubectl port-forward`."""
        dashboard = app(authorize=TokenSignIn(TOKEN, EVERYBODY), hosts=["localhost"], database=sqlite_ledger_url)
        with Browser(dashboard, "localhost:8080") as browser:
            assert browser.get("/sign-in").headers["set-cookie"].startswith("spoke_jobs_session=")

    def test_it_leads_to_the_page_that_was_asked_for(self, browser: Browser) -> None:
        page = "/jobs?type=a%2Fb%5C*&state=failed"
        asked = browser.get(page)
        assert asked.status_code == 303
        form = self.form_at(browser, asked.headers["location"])
        wrong = browser.post("/sign-in", data=form | {"secret": "x" * 40})
        form = self.form_in(wrong) | {"secret": TOKEN}
        elsewhere = f"/sign-in?{urlencode({'next': '//evil.test'})}"
        assert self.form_at(browser, elsewhere)["next"] == "/"
        assert browser.post("/sign-in", data=form | {"next": "//evil.test"}).headers["location"] == "/"
        assert browser.get(elsewhere).headers["location"] == "/"
        browser.cookies.clear()
        form = self.form_at(browser, asked.headers["location"]) | {"secret": TOKEN}
        assert browser.post("/sign-in", data=form).headers["location"] == page
        assert browser.get(page).status_code == 200
        assert browser.get(asked.headers["location"]).headers["location"] == page, (
            "who has signed in goes there at once"
        )

    def form_at(self, browser: Browser, path: str) -> dict[str, str]:
        return self.form_in(browser.get(path))

    def form_in(self, page: httpx.Response) -> dict[str, str]:
        found = re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">', page.text)
        return {name: html.unescape(value) for name, value in found}

    def test_a_token_in_a_header(self, browser: Browser) -> None:
        assert browser.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        browser.cookies.clear()
        for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer é"):
            assert browser.get("/", headers={"Authorization": wrong.encode()}).status_code == 401

    def test_programs_are_asked_for_a_token_and_led_to_no_page(self, browser: Browser) -> None:
        for path in ("/api/v1/jobs", "/api/v1/openapi.json"):
            answer = browser.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)
            assert answer.headers["www-authenticate"] == "Bearer"
            answer = browser.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == 200
            assert not browser.cookies, "programs keep no session"
        assert set(answer.json()["components"]["securitySchemes"]) == {"bearer", "session"}
        form = {"token": token_in(browser.get("/sign-in")), "secret": TOKEN}
        browser.post("/sign-in", data=form)
        assert browser.get("/api/v1/jobs").status_code == 200, "a browser's session does, too"


def test_the_openapi_document_names_the_cookie_that_the_dashboard_sets(sqlite_ledger_url: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    for host, root, secure in ((HOST, "", True), (HOST, "/ops", True), (HOST, "", False), ("localhost", "", True)):
        dashboard = app(
            authorize=TokenSignIn(TOKEN, EVERYBODY),
            hosts=[HOST, "localhost"],
            database=sqlite_ledger_url,
            secure_cookies=secure,
        )
        site = Starlette(routes=[Mount(root, dashboard)]) if root else None
        with Browser(dashboard, host, below=site) as browser:
            browser.get(f"{root}/sign-in")
            (name,) = browser.cookies
            answer = browser.get(f"{root}/api/v1/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
            assert answer.json()["components"]["securitySchemes"]["session"]["name"] == name
            assert name == ("__Host-spoke_jobs_session" if (host, root, secure) == (HOST, "", True) else COOKIE)


def test_it_can_be_mounted_below_a_path(sqlite_ledger_url: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    dashboard = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=sqlite_ledger_url)
    site = Starlette(routes=[Mount("/ops", dashboard)])
    with Browser(dashboard, HOST, below=site) as browser:
        page = browser.get("/ops/jobs")
        assert page.status_code == 200
        assert 'href="/ops/jobs" aria-current="page"' in page.text
        assert "path=/ops" in page.headers["set-cookie"].lower()
        assert browser.get("/ops/jobs?id=7").headers["location"] == "/ops/jobs/7"
        assert browser.get("/ops/healthz", headers={"Host": "10.0.0.7"}).status_code == 200
        assert browser.get("/ops/jobs", headers={"Host": "10.0.0.7"}).status_code == 400
        for link in set(page.text.split('href="')[1:]):
            assert link.startswith(("/ops/", "#"))


def test_the_api_below_a_path(sqlite_ledger_url: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    for ledger in open_ledger(sqlite_ledger_url):
        ledger.insert_many([new_job() for _ in range(2)])
    dashboard = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=sqlite_ledger_url)
    with Browser(dashboard, HOST, below=Starlette(routes=[Mount("/ops", dashboard)])) as browser:
        assert browser.get("/ops/api/v1/openapi.json").json()["servers"] == [{"url": "/ops/api/v1"}]
        link = browser.get("/ops/api/v1/jobs?limit=1").headers["link"]
        assert link == '</ops/api/v1/jobs?limit=1&before=2>; rel="next"'
        assert browser.get("/ops/api/v1/nothing").headers["content-type"] == PROBLEM
        assert browser.get("/ops/nothing").headers["content-type"] == "text/html; charset=utf-8"


def test_signing_in_below_a_path_leads_to_a_page_below_it(sqlite_ledger_url: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    dashboard = app(authorize=TokenSignIn(TOKEN, EVERYBODY), hosts=[HOST], database=sqlite_ledger_url)
    site = Starlette(routes=[Mount("/ops", dashboard)])
    with Browser(dashboard, HOST, below=site) as browser:
        address = browser.get("/ops/jobs/7?said=retried").headers["location"]
        assert address == "/ops/sign-in?next=%2Fjobs%2F7%3Fsaid%3Dretried"
        form = {"token": token_in(browser.get(address)), "secret": TOKEN}
        answer = browser.post("/ops/sign-in", data=form | {"next": "/jobs/7?said=retried"})
        assert answer.headers["location"] == "/ops/jobs/7?said=retried"
