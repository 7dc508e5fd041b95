"""The dashboard in a browser, with the same answers on each database. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text, update
from tests.contract.dashboard_scene import (
    API_ROUTES,
    EVERYBODY,
    HOST,
    HOSTILE,
    ONE,
    ROUTES,
    DashboardScene,
    Open,
    token_in,
)
from tests.contract.ledger import LEASE, new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import (
    UNMEASURED,
    AttemptUsage,
    Failure,
    JobState,
    Progress,
)
from spoke_jobs.web import app


class DashboardContract(DashboardScene):
    """What a browser gets."""

    # What it shows

    def test_a_job_with_its_attempts_and_advice(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        page = browse(EVERYBODY).get(f"/jobs/{job.id}").text
        assert "it failed with JobError" in page
        assert "last line" in page
        assert f"spoke-jobs retry {job.id}" in page, "the advice"
        assert f"spoke-jobs logs {job.id}" in page
        assert "host:7" in page

    def test_peaks_of_its_type_show_growth(self, ledger: SqlLedger, browse: Open) -> None:
        """Also of a job that was killed for its memory."""
        for organization, mebibytes in ((1, 900), (2, 1_012), (1, 980), (1, None), (2, 1_020)):
            ledger.insert(new_job(organization_id=organization))
            used = UNMEASURED if mebibytes is None else AttemptUsage(mebibytes * 2**20)
            ledger.succeed(None, self.claimed(ledger).token, None, usage=used)
        killed = ledger.insert(new_job(organization_id=1))
        failure = Failure("OutOfMemory", "no", for_good=True, usage=AttemptUsage(1_036 * 2**20))
        ledger.fail(self.claimed(ledger).token, failure, decide=True)
        page = browse(EVERYBODY).get(f"/jobs/{killed.id}").text
        assert '<th scope="col">Peak memory</th></tr>' in page, "no CPU time was measured"
        assert "<td>1,036 MiB</td></tr>" in page
        newest = "Peak memory of the newest {} successes of its type: 900 MiB in the oldest of them, {} in the newest."
        assert newest.format(4, "1,020 MiB") in page
        assert newest.format(2, "980 MiB") in browse(ONE).get(f"/jobs/{killed.id}").text
        other = self.failed(ledger, job_type="export")
        assert "Peak memory" not in browse(EVERYBODY).get(f"/jobs/{other.id}").text

    def test_times_are_in_the_zone_that_the_browser_names(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        self.claimed(ledger)
        (attempt,) = ledger.attempts(job.id)
        began = attempt.claimed_at.astimezone(ZoneInfo("Asia/Kathmandu"))
        browser = browse(EVERYBODY)
        assert "Started (UTC)" in browser.get(f"/jobs/{job.id}").text
        for name in ("Nowhere/Nothing", "Asia", "../../etc/hostname", "A" * 70, "zone.tab"):
            browser.cookies.set("spoke-jobs-zone", name)
            assert "Started (UTC)" in browser.get(f"/jobs/{job.id}").text
        browser.cookies.clear()
        browser.cookies.set("spoke-jobs-zone", "Asia/Kathmandu")
        page = browser.get(f"/jobs/{job.id}").text
        assert "Started (Asia/Kathmandu)" in page
        assert f"<td>{began:%Y-%m-%d %H:%M:%S}</td>" in page
        assert f"{began:%Y-%m-%d %H:%M:%S} +0545 (" in page, "in its facts"
        assert f"since {began:%H:%M:%S} " in page, "why"

    def test_progress(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        claim = self.claimed(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(40, "row 400"))
        page = browse(EVERYBODY).get(f"/jobs/{claim.job.id}").text
        assert '<progress id="progress" max="100" value="40">' in page
        assert "row 400" in page

    def test_payload_and_result_need_permission(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(payload='{"secret":"in the payload"}', organization_id=1))
        claim = self.claimed(ledger)
        ledger.succeed(None, claim.token, {"secret": "in the result"})
        path = f"/jobs/{claim.job.id}"
        allowed, refused = browse(EVERYBODY).get(path).text, browse(ONE).get(path).text
        assert "in the payload" in allowed
        assert "in the result" in allowed
        assert "succeeded" in refused
        assert "in the payload" not in refused
        assert "in the result" not in refused

    def test_what_a_job_depends_on(self, ledger: SqlLedger, browse: Open) -> None:
        first = ledger.insert(new_job(job_type="first", organization_id=1))
        then = ledger.insert(new_job(organization_id=1, after=(first.id,)))
        page = browse(ONE).get(f"/jobs/{then.id}").text
        assert f'<a href="/jobs/{first.id}">{first.id}</a> first: waiting' in page

    # What it does

    def test_cancel_and_retry_are_recorded_under_the_viewers_name(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        answer = self.post(browser, f"{path}/cancel", path)
        assert answer.status_code == 303
        assert "The job was cancelled." in browser.get(answer.headers["location"]).text
        answer = self.post(browser, f"{path}/retry", path)
        assert answer.headers["location"] == f"{path}?said=retried"
        found = ledger.get(job.id)
        assert found is not None
        assert (found.state, found.run) == (JobState.WAITING, 2)
        events = Queries(ledger.engine).events(9, EventFilter(job_id=job.id))
        assert [(event.action, event.actor) for event in events] == [("retry", "ada"), ("cancel", "ada")]

    def test_a_retry_keeps_checkpoints_unless_told(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        claim = self.claimed(ledger)
        ledger.save(None, claim.token, {"": "7"})
        ledger.fail(claim.token, Failure("JobError", "no", for_good=True), decide=True)
        browser, path = browse(EVERYBODY), f"/jobs/{claim.job.id}"
        self.post(browser, f"{path}/retry", path)
        assert len(ledger.saved(claim.job.id)) == 1
        ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
        assert 'name="clear_checkpoints"' in browser.get(path).text
        self.post(browser, f"{path}/retry", path, clear_checkpoints="yes")
        assert ledger.saved(claim.job.id) == []

    def test_what_cannot_be_done_says_why(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        answer = self.post(browser, f"{path}/cancel", path)
        assert answer.status_code == 409
        assert "there is nothing to cancel" in answer.text
        assert f'href="{path}"' in answer.text
        assert self.post(browser, "/jobs/999/cancel", path).status_code == 404

    # Who may see and do what

    @pytest.mark.parametrize(("method", "path"), [*ROUTES, *API_ROUTES])
    def test_nobody_sees_or_does_anything_without_a_session(
        self, ledger: SqlLedger, browse: Open, method: str, path: str
    ) -> None:
        job = ledger.insert(new_job(job_type="hidden"))
        browser = browse(None)
        answer = browser.request(method, path.format(job_id=job.id, batch_id=1, task_id=1, mute_id=1))
        assert answer.status_code == 401
        assert "hidden" not in answer.text
        assert ledger.get(job.id) == job

    def test_the_routes_are_those_that_are_tested(self, ledger_url: str) -> None:
        dashboard = app(authorize=lambda _request: None, hosts=[HOST], database=ledger_url)
        open_to_all = {
            ("GET", "/sign-in"),
            ("POST", "/sign-in"),
            ("POST", "/sign-out"),
            ("GET", "/sign-in/start"),
            ("GET", "/sign-in/callback"),
            ("GET", "/signed-out"),
            ("GET", "/static/{name}"),
            ("GET", "/healthz"),
        }
        routes = {
            (method, route.path)
            for route in dashboard._app.routes  # type: ignore[attr-defined]
            for method in route.methods - {"HEAD"}
        }
        assert routes == {*ROUTES, *API_ROUTES} | open_to_all
        dashboard.close()

    def test_jobs_of_other_organizations_do_not_exist(self, ledger: SqlLedger, browse: Open) -> None:
        """Neither as rows, nor in counts, completions, sentences, links or addresses."""
        ledger.insert(new_job(job_type="theirs", organization_id=2, queue_name="their_queue", locks_queue=True))
        theirs = self.claimed(ledger).job
        for organization in (2, None):
            ledger.insert(new_job(job_type="theirs", organization_id=organization, queue_name="their_queue"))
        mine = ledger.insert(new_job(job_type="mine", organization_id=1, queue_name="their_queue", locks_queue=True))
        after = ledger.insert(new_job(job_type="after", organization_id=1, after=(theirs.id,)))
        browser = browse(ONE)
        overview, listed = browser.get("/").text, browser.get("/jobs").text
        assert '<span class="number">1</span> waiting' in overview
        assert '<span class="number">0</span> running' in overview
        assert "host:7" not in overview
        assert "mine" in listed
        pages = [overview, listed, *(browser.get(f"/jobs/{job.id}").text for job in (mine, after))]
        for page in pages:
            assert "theirs" not in page
            assert f"/jobs/{theirs.id}" not in page
            assert not re.search(rf"\bjob {theirs.id}\b|why {theirs.id}\b", page)
        assert "Another job holds the lock" in pages[2]
        for path in (f"/jobs/{theirs.id}", "/jobs?type=theirs", "/jobs?organization=2"):
            answer = browser.get(path)
            assert answer.text.replace(path.partition("=")[2], "").count("theirs") == 0
        assert browser.get(f"/jobs/{theirs.id}").status_code == 404
        for action in ("cancel", "retry"):
            answer = self.post(browser, f"/jobs/{theirs.id}/{action}", f"/jobs/{mine.id}")
            assert answer.status_code == 404
        found = ledger.get(theirs.id)
        assert found is not None
        assert found.cancel_requested_at is None

    def test_a_failed_dependency_of_another_organization_is_not_named(self, ledger: SqlLedger, browse: Open) -> None:
        theirs = ledger.insert(new_job(job_type="theirs", organization_id=2))
        mine = ledger.insert(new_job(job_type="mine", organization_id=1, after=(theirs.id,)))
        ledger.cancel(theirs.id)
        assert "theirs" in browse(EVERYBODY).get(f"/jobs/{mine.id}").text
        browser = browse(ONE)
        for path in (f"/jobs/{mine.id}", "/jobs", "/"):
            page = browser.get(path).text
            assert "DependencyFailed" in page
            assert "theirs" not in page
        answer = self.post(browser, f"/jobs/{mine.id}/retry", f"/jobs/{mine.id}")
        assert answer.status_code == 409
        assert "theirs" not in answer.text

    def test_a_viewer_without_actions_only_looks(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        path, secret = f"/jobs/{job.id}", "s" * 40
        acting, looking = browse(EVERYBODY, secret=secret), browse(EVERYBODY.read_only(), secret=secret)
        token = token_in(acting.get(path))
        looking.cookies.update(acting.cookies)
        page = looking.get(path)
        assert "may only look" in page.text
        assert "<form" not in page.text
        answer = looking.post(f"{path}/cancel", data={"token": token})
        assert answer.status_code == 403
        assert "You may not cancel" in answer.text, "the form itself is valid"
        assert ledger.get(job.id) == job

    @pytest.mark.parametrize("action", ["cancel", "retry"])
    def test_nothing_is_done_over_get(self, ledger: SqlLedger, browse: Open, action: str) -> None:
        job = self.failed(ledger) if action == "retry" else ledger.insert(new_job())
        before = ledger.get(job.id)
        browser = browse(EVERYBODY)
        token = token_in(browser.get(f"/jobs/{job.id}"))
        answer = browser.get(f"/jobs/{job.id}/{action}?token={token}")
        assert answer.status_code == 405
        assert ledger.get(job.id) == before

    def test_a_form_of_another_session_or_viewer_does_nothing(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(organization_id=1))
        path = f"/jobs/{job.id}"
        first, second = browse(EVERYBODY), browse(EVERYBODY)
        first.get(path)
        theirs = token_in(second.get(path))
        for token in ("", "0" * 64, theirs, token_in(first.get(path))[:-1], "é"):
            answer = first.post(f"{path}/cancel", data={"token": token})
            assert answer.status_code == 403
            assert "out of date" in answer.text
        good = token_in(first.get(path))
        first.cookies.clear()
        assert first.post(f"{path}/cancel", data={"token": good}).status_code == 403, "the session is gone"
        assert ledger.get(job.id) == job

    def test_a_form_of_another_site_does_nothing(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        data = {"token": token_in(browser.get(path))}
        for site in ("cross-site", "same-site"):
            answer = browser.post(f"{path}/cancel", data=data, headers={"Sec-Fetch-Site": site})
            assert answer.status_code == 403
        assert browser.post(f"{path}/cancel", json=data).status_code == 400
        large = browser.post(f"{path}/cancel", data=data | {"more": "x" * 20_000})
        assert large.status_code == 400
        twice = browser.post(
            f"{path}/cancel",
            content=f"token={data['token']}&token=x",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert twice.status_code == 400
        assert ledger.get(job.id) == job

    def test_hostile_texts_are_inert(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(job_type="hostile", queue_name=HOSTILE, unique_key=HOSTILE))
        claim = self.claimed(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(1, HOSTILE))
        browser = browse(EVERYBODY)
        pages = [browser.get(path).text for path in ("/", "/jobs", f"/jobs/{job.id}")]
        failure = Failure("JobError", HOSTILE, "ValueError", HOSTILE * 3, for_good=True, fingerprint=HOSTILE)
        ledger.fail(claim.token, failure, decide=True)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).values(job_type=HOSTILE, cause=HOSTILE))
            connection.execute(text("UPDATE job_attempt SET worker = :text"), {"text": HOSTILE})
        ledger.insert(new_job(job_type=HOSTILE, payload=f'"{HOSTILE[:20]}"'))
        pages += [browser.get(path).text for path in ("/", "/jobs", f"/jobs/{job.id}", f"/jobs/{job.id + 1}")]
        pages.append(browser.get("/jobs", params={"type": HOSTILE, "queue": HOSTILE, "id": HOSTILE}).text)
        assert sum("&lt;script&gt;" in page for page in pages) == len(pages) - 1, "the first overview has none"
        for page in pages:
            self.assert_inert(page)

    @pytest.mark.parametrize("given", ["x" * 10_000_000, "\x1b[31m<b>\u202e" * 1_000_000], ids=["letters", "controls"])
    def test_lines_of_10_mb_make_no_large_page(self, ledger: SqlLedger, browse: Open, given: str) -> None:
        job = ledger.insert(new_job())
        claim = self.claimed(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(1, given))
        browser, paths = browse(EVERYBODY), ("/", "/jobs", f"/jobs/{job.id}", "/failures")
        pages = [browser.get(path) for path in paths]
        failure = Failure("JobError", given, "ValueError", given, for_good=True, fingerprint="E@f")
        ledger.fail(claim.token, failure, decide=True)
        for page in (*pages, *(browser.get(path) for path in paths)):
            assert page.status_code == 200
            assert len(page.content) < 500_000
            self.assert_inert(page.text)

    def test_pages_are_made_for_everybody(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        ledger.insert(new_job())
        browser = browse(EVERYBODY)
        for path in ("/", "/jobs", f"/jobs/{job.id}", f"/jobs/{job.id + 1}"):
            self.assert_for_everybody(browser.get(path).text)
