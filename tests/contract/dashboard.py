"""The dashboard in a browser, with the same answers on each database. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from tests.contract.dashboard_scene import (
    API_ROUTES,
    EVERYBODY,
    FORMS,
    HOSTILE,
    ONE,
    ROUTES,
    Open,
    cells,
    token_in,
)
from tests.contract.dashboard_schedules import APPLICATION, ScheduleScene
from tests.contract.filled_ledger import PAGES, fill, fill_with_hostile_texts
from tests.contract.ledger import LEASE, new_job

from spoke_jobs.ledger.audit.audit_events import Action, EventFilter, record
from spoke_jobs.ledger.notices.mute_rows import add_mute
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import (
    UNMEASURED,
    AttemptUsage,
    Failure,
    JobState,
    Progress,
)
from spoke_jobs.schedules.occurrences import Skip, SkipReason
from spoke_jobs.web import ALL_ACTIONS, JobAction, Viewer
from spoke_jobs.web.job_search import encoded

IDS = dict.fromkeys(("job_id", "batch_id", "task_id", "mute_id"), 1)
BULK = f"/bulk/cancel?{urlencode({'queue': HOSTILE})}"
SEARCHES = (
    f"/jobs?{urlencode(dict.fromkeys(('type', 'queue'), HOSTILE))}",
    f"/tasks?{urlencode(dict.fromkeys(('name', 'cause'), HOSTILE))}",
    f"/audit?{urlencode(dict.fromkeys(('by', 'type', 'action'), HOSTILE))}",
    f"/batches?{urlencode({'name': HOSTILE})}",
    f"/schedules?{urlencode({'name': HOSTILE})}",
    BULK,
)
EMPTY = (
    ("/", "There is no job{}. Dispatch one"),
    ("/", "spoke-jobs worker"),
    ("/jobs", "<code>spoke-jobs dispatch TYPE</code>"),
    ("/jobs?type=nothing", "No job matches"),
    ("/failures", "No job{} has failed for good in the last day"),
    ("/queues", "No job{} waits or runs"),
    ("/schedules", "There is no schedule{}. Declare one"),
    ("/batches", "There is no batch{}. An application opens one by <code>with batch(name):"),
    ("/batches?name=april", "No batch{} has such a name"),
    ("/audit", "Nobody has cancelled, retried, paused or changed anything{}"),
    ("/audit?by=eve", "No event matches"),
    ("/bulk/cancel?type=report", "can be changed so"),
)
"""Pages, and what they say if there is nothing to show."""


class DashboardContract(ScheduleScene):
    """What a browser gets."""

    def test_each_page_of_hostile_texts_is_inert_and_for_everybody(self, ledger: SqlLedger, browse: Open) -> None:
        filled = asdict(fill_with_hostile_texts(ledger))
        browser, one = browse(EVERYBODY, application=APPLICATION), browse(ONE)
        looking, shown = browse(EVERYBODY.read_only()), set()
        for path in (*PAGES, *SEARCHES):
            address = path.format_map(filled)
            page = browser.get(address)
            assert page.status_code == 200, path
            self.assert_inert(page.text)
            self.assert_for_everybody(page.text)
            if "&lt;script&gt;" in page.text:
                shown.add(path)
            for other in (one, looking):
                answer = other.get(address)
                assert answer.status_code in (200, 403, 404), path
                self.assert_inert(answer.text)
            assert 'method="post"' not in answer.text[answer.text.index("<main") :], "they may only look"
        assert {*PAGES, *SEARCHES} - shown <= {"/bulk/retry?state=failed", "/cluster"}

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

    def test_what_is_of_other_organizations_does_not_exist(self, ledger: SqlLedger, browse: Open) -> None:
        """Neither as rows, nor in counts, completions, sentences, links or addresses, nor for forms."""
        of_theirs: dict[str, Any] = {"job_type": "theirs", "organization_id": 2}
        ledger.insert(new_job(**of_theirs, queue_name="shared", locks_queue=True))
        theirs = self.claimed(ledger).job
        for organization in (2, None):
            of_nobody = of_theirs | {"organization_id": organization}
            self.failed_at(ledger, "theirs@f", "theirs: a traceback", **of_nobody, priority=9)
            ledger.cancel(ledger.insert(new_job(**of_nobody, queue_name="theirs")).id, "theirs")
        failed = self.failed_at(ledger, "mine@f", "my traceback", organization_id=1, priority=9)
        mine = ledger.insert(new_job(job_type="mine", organization_id=1, queue_name="shared", locks_queue=True))
        after = ledger.insert(new_job(job_type="after", organization_id=1, after=(theirs.id,)))
        batches = [ledger.open_batch(name, new_job(**of_theirs)) for name in ("my batch", "theirs, too", "theirs")]
        for batch, organization in ((batches[0], 1), (batches[1], 1), (batches[1], 2), (batches[2], None)):
            ledger.insert(new_job(job_type="of_a_batch", organization_id=organization, batch_id=batch.id))
        now = Queries(ledger.engine).now()
        skip = schedule_rows.skip_to_json(Skip(SkipReason.UNIQUE_KEY, now, now, theirs.id))
        for name, of in (("theirs", 2), ("theirs, too", None), ("my schedule", 1)):
            self.add(ledger, name, organization_id=of)
            self.change(ledger, name, last_skip=skip, last_job_id=theirs.id, last_due_at=now)
        with ledger.engine.begin() as connection:
            record(connection, Action.RETRY, "ada", job_id=mine.id, detail="and 3 jobs of theirs", job_type="mine")
            record(connection, Action.CANCEL, "theirs", job_id=999, detail="of a pruned job", job_type="theirs")
            until = now + timedelta(hours=2)
            add_mute(connection, NewMute(cause="JobError", until=until, reason="theirs: a reason"), "theirs")
        ledger.limits.pause(parse_scope("organization:2"), "theirs: a reason", "grace")

        browser = browse(ONE, application=APPLICATION)
        paths = ("/", "/jobs", "/failures", "/queues", "/schedules", "/batches", "/audit", "/jobs?state=failed")
        pages = {path: browser.get(path).text for path in (*paths, f"/jobs/{mine.id}", f"/jobs/{after.id}")}
        for path, page in pages.items():
            assert "theirs" not in page, path
            assert not re.search(rf"\b(?:job|why) {theirs.id}\b|/jobs/{theirs.id}\b", page), path
        for state, number in (("waiting", 3), ("blocked", 1), ("running", 0), ("failed", 1)):
            assert f'<span class="number">{number}</span> {state}' in pages["/"]
        assert f"(job {failed.id})" in pages["/failures"]
        assert "uted" not in pages["/failures"], "mutes concern all organizations"
        assert re.findall(r"<h2[^>]*>(\d+) ", pages["/failures"]) == ["1"]
        assert "Another job holds the lock" in pages[f"/jobs/{mine.id}"]
        assert re.findall(r"<h2[^>]*>([^<]+)</h2>", pages["/schedules"]) == ["my schedule"]
        ((_, *event),), ((_, *batch_cells),) = cells(pages["/audit"]), cells(pages["/batches"])
        assert event == ["ada", "retry", str(mine.id), "mine", ""], "details may count jobs of others"
        assert batch_cells[:6] == ["my batch", "open 0 %", "1", "0", "0", ""], "nor is the job that follows it shown"
        for path in ("/jobs?type=theirs", "/jobs?organization=2", "/audit?by=theirs", f"/audit?job={theirs.id}",
                     f"/batches?id={batches[1].id}"):  # fmt: skip
            assert cells(browser.get(path).text) == [], path
        assert browser.get(f"/jobs/{theirs.id}").status_code == 404

        token, events = token_in(browser.get(f"/jobs/{mine.id}")), Queries(ledger.engine).events(99)
        jobs = [path for path in FORMS if path.startswith("/jobs") and "priority" not in path]
        for path in (*jobs, "/batches/{batch_id}/close", "/batches/{batch_id}/cancel"):
            for job_id, batch in ((theirs.id, batches[1]), (999, batches[2])):
                answer = browser.post(path.format(job_id=job_id, batch_id=batch.id), data={"token": token})
                assert answer.status_code == 404, path
        answer = browser.post(f"/batches/{batches[0].id}/close", data={"token": token})
        assert (answer.status_code, "You may not see the job that follows" in answer.text) == (409, True)
        for name in ("theirs", "theirs, too", "nothing"):
            for action in ("pause", "resume", "run"):
                answer = browser.post(f"/schedules/{action}", data={"token": token, "schedule": encoded(name)})
                assert (answer.status_code, "There is no such schedule" in answer.text) == (404, True)
        assert Queries(ledger.engine).events(99) == events


class DashboardPages(DashboardContract):
    """What depends on no database."""

    def test_forms_send_hostile_names_as_they_are(self, ledger: SqlLedger, browse: Open) -> None:
        filled = fill_with_hostile_texts(ledger)
        browser = browse(EVERYBODY)
        for shown_at, path in (("/schedules", "/schedules/pause"), (BULK, "/bulk/cancel")):
            page = browser.get(shown_at).text
            for form in re.findall(rf'<form method="post" action="{path}".*?</form>', page, re.DOTALL):
                fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
                browser.post(path, data={name: unescape(value) for name, value in fields})
        with ledger.engine.connect() as connection:
            assert all(row.paused_at is not None for row in schedule_rows.schedules_after(connection, "", 9))
        job = ledger.get(filled.waiting)
        assert job is not None
        assert job.state is JobState.FAILED

    @pytest.mark.parametrize("viewer", [EVERYBODY, ONE], ids=["everybody", "one"])
    def test_an_empty_page_says_what_to_do(self, browse: Open, viewer: Viewer) -> None:
        """Whoever sees all is not told of what they may not see."""
        browser = browse(viewer)
        for path, said in EMPTY:
            page = browser.get(path).text
            assert said.format("" if viewer.sees_all else " that you may see") in page, path
            assert viewer is ONE or "you may see" not in page, path
            self.assert_for_everybody(page)

    def test_without_a_task(self, browse: Open) -> None:
        browser = browse(EVERYBODY)
        page = browser.get("/tasks").text
        assert "The outbox is empty" in page
        assert "No task has failed for good" in page
        assert "No replica has claimed a task" in page
        assert "No task of the outbox matches" in browser.get("/tasks?name=other").text
        missing = browser.get("/tasks/1")
        assert missing.status_code == 404
        assert "it has run" in missing.text
        assert 'id="live"' in missing.text, "a browser that shows a task which has run replaces it by this"

    @pytest.mark.parametrize(
        ("page", "wrong"),
        [
            ("/jobs", ("state=gone", "organization=x", "organization=99999999999", "id=-1", "type=%00")),
            ("/tasks", ("state=gone", "name=%00", f"cause={'x' * 501}")),
            ("/audit", ("job=x", "job=0", "by=%00", f"type={'x' * 501}")),
        ],
    )
    def test_a_wrong_filter_selects_nothing_and_is_named(self, browse: Open, page: str, wrong: tuple[str, ...]) -> None:
        browser = browse(EVERYBODY)
        for query in wrong:
            answer = browser.get(f"{page}?{query}")
            assert answer.status_code == 400, query
            marked = f'aria-invalid="true" aria-describedby="{query.partition("=")[0]}-problem"' in answer.text
            assert marked or page != "/jobs", query
            assert cells(answer.text) == [], query

    def test_nobody_sees_or_does_anything_without_a_session(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(job_type="hidden"))
        browser, client = browse(None), browse(EVERYBODY)
        for method, path in (*ROUTES, *API_ROUTES):
            answer = browser.request(method, path.format_map(IDS))
            assert answer.status_code == 401, path
            assert "hidden" not in answer.text
        assert ledger.get(job.id) == job
        assert client.get("/jobs").text.count("hidden")

    def test_the_routes_are_those_that_are_tested(self, browse: Open) -> None:
        open_to_all = {("GET", path) for path in ("/signed-out", "/static/{name}", "/healthz")}
        open_to_all |= {("GET", f"/sign-in{end}") for end in ("", "/start", "/callback")}
        open_to_all |= {("POST", "/sign-in"), ("POST", "/sign-out")}
        routes = {
            (method, route.path)
            for route in browse(EVERYBODY).app._app.routes  # type: ignore[union-attr]
            for method in route.methods - {"HEAD"}
        }
        assert routes == {*ROUTES, *API_ROUTES} | open_to_all
        shown = {re.sub(r"\{.*\}", "#", path).partition("?")[0] for path in PAGES}
        assert shown == {re.sub(r"\{.*\}", "#", path) for method, path in ROUTES if method == "GET"} - {"/changes"}

    def test_a_form_does_nothing_without_a_permission_and_a_token_of_its_session(
        self, ledger: SqlLedger, browse: Open
    ) -> None:
        fill(ledger)
        before = Queries(ledger.engine).events(99)
        acting, secret = browse(EVERYBODY, secret="s" * 40), "s" * 40
        token, theirs = token_in(acting.get("/queues")), token_in(browse(EVERYBODY).get("/queues"))
        viewers = {each: replace(EVERYBODY, actions=ALL_ACTIONS - {each}) for each in JobAction}
        looking = {each: browse(viewer, secret=secret) for each, viewer in viewers.items()}
        for browser in looking.values():
            browser.cookies.update(acting.cookies)
        for form, needed in FORMS.items():
            path = form.format_map(IDS)
            answer = looking[needed].post(path, data={"token": token})
            assert (answer.status_code, "You may not" in answer.text) == (403, True), "the form itself is valid"
            for wrong in ("", "0" * 64, theirs, token[:-1], "é"):
                answer = acting.post(path, data={"token": wrong})
                assert (answer.status_code, "out of date" in answer.text) == (403, True), form
            for headers, status in (({"Sec-Fetch-Site": "cross-site"}, 403), ({"Host": "evil.test"}, 400)):
                assert acting.post(path, data={"token": token}, headers=headers).status_code == status
            if form.startswith("/bulk"):
                assert looking[needed].get(f"{path}?type=report").status_code == 403
            else:
                assert acting.get(path, params={"token": token}).status_code == 405
        acting.cookies.clear()
        assert acting.post("/limits/reset", data={"token": token}).status_code == 403, "the session is gone"
        assert Queries(ledger.engine).events(99) == before

    def test_what_is_not_given_right_changes_nothing(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        browser = browse(EVERYBODY)
        token, mute = token_in(browser.get("/queues")), {"cause": "JobError", "hours": "1", "reason": "r"}
        for path, fields, said in (
            ("/limits/pause", {"scope": "queue", "reason": "r", "hours": ""}, "scope"),
            ("/limits/pause", {"scope": "all", "reason": " ", "hours": ""}, "reason"),
            ("/limits/pause", {"scope": "all", "reason": "r", "hours": "5"}, "when the pause ends"),
            ("/limits/set", {"scope": "all"}, "give a number"),
            ("/limits/set", {"scope": "all", "max_running": "-1"}, "whole number"),
            ("/limits/set", {"scope": "all", "rate": "fast"}, "rate"),
            ("/limits/set", {"scope": "all", "burst": "x"}, "burst"),
            ("/limits/reset", {"known_scope": "all"}, "there is no limit"),
            ("/limits/resume", {"known_scope": "%00"}, "scope"),
            ("/mutes/add", mute | {"reason": " \n "}, "the reason is empty"),
            ("/mutes/add", mute | {"reason": "x" * 201}, "has 201 characters: give at most 200"),
            ("/mutes/add", mute | {"hours": "2"}, "choose how long"),
            ("/mutes/add", mute | {"fingerprint": ""}, "is empty: that would mute all failures"),
            ("/mutes/add", mute | {"cause": "%20"}, "is empty: that would mute all failures"),
            ("/mutes/add", mute | {"job_type": "*", "cause": "*", "fingerprint": "*"}, "not a form of the dashboard"),
            ("/mutes/add", mute | {"job_type": "x" * 1_001}, "not a form of the dashboard"),
            ("/mutes/add", {"hours": "1", "reason": "x"}, "give a type, a cause or a fingerprint"),
            ("/jobs/1/priority", {"priority": "1001"}, "from -1000 to 1000 is expected"),
            ("/jobs/1/priority", {"priority": "<b>"}, "give a whole number"),
            ("/jobs/1/priority", {"priority": "0" * 20 + "5"}, "give a whole number"),
            ("/jobs/1/suspend", {"reason": "x" * 201}, "at most 200 characters"),
        ):
            answer = browser.post(path, data={"token": token, **fields})
            assert (answer.status_code, said in answer.text) == (400, True), (path, fields)
            assert "<b>" not in answer.text
        assert Queries(ledger.engine).events(9) == []

    def test_what_concerns_all_organizations(self, ledger: SqlLedger, browse: Open) -> None:
        """Limits, mutes, priorities, tasks, which belong to no organization, and the cluster."""
        filled = fill(ledger)
        job = ledger.insert(new_job(organization_id=1))
        before = Queries(ledger.engine).events(99)
        browser, token = (one := browse(ONE)), token_in(one.get(f"/jobs/{job.id}"))
        of_all = [path for path in FORMS if path.startswith(("/limits", "/mutes", "/tasks"))]
        for path in (*of_all, f"/jobs/{job.id}/priority"):
            answer = browser.post(path.format_map(IDS), data={"token": token, "scope": "all", "priority": "5"})
            assert (answer.status_code, "all organizations" in answer.text) == (403, True), path
        for path in ("/tasks", "/tasks?name=send", f"/tasks/{filled.task}", "/tasks/999", "/cluster"):
            answer = browser.get(path)
            assert (answer.status_code, "send_message" in answer.text) == (403, False), path
        assert Queries(ledger.engine).events(99) == before
        page = browser.get(f"/jobs/{job.id}").text
        assert f">Suspend job {job.id}</button>" in page
        for absent in ('name="priority"', 'href="/tasks"', 'href="/cluster"'):
            assert absent not in page
            assert absent in browse(EVERYBODY).get(f"/jobs/{job.id}").text

    def test_a_job_with_its_attempts_and_advice(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        page = browse(EVERYBODY).get(f"/jobs/{job.id}").text
        assert "it failed with JobError" in page
        assert "last line" in page
        assert f"spoke-jobs retry {job.id}" in page, "the advice"
        assert f"spoke-jobs logs {job.id}" in page
        assert "host:7" in page

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

    def test_values_and_output_need_permission(self, ledger: SqlLedger, browse: Open) -> None:
        """Values of payloads and results, and texts that may hold some; what jobs print."""
        ledger.insert(new_job(payload='"a secret value"'))
        claim = self.claimed(ledger)
        ledger.succeed(None, claim.token, {"result": "a secret value"})
        failed = self.failed_at(ledger, "one", "a printed line")
        self.add(ledger, "nightly")
        self.change(ledger, "nightly", error="a secret value")
        with ledger.engine.begin() as connection:
            insert_task(connection, "kubernetes", "send", '"a secret value"')
            record(connection, Action.FAIL_SCHEDULE, "", detail="nightly: a secret value")
        may, may_not = browse(EVERYBODY), browse(Viewer(name="ada", organizations=None, may_see_output=False))
        for hidden, paths in (
            ("a secret value", ("/", f"/jobs/{claim.job.id}", "/schedules", "/tasks/1", "/audit")),
            ("a printed line", ("/failures", f"/jobs/{failed.id}")),
        ):
            for path in paths:
                assert hidden in may.get(path).text, path
                answer = may_not.get(path)
                assert (answer.status_code, hidden in answer.text) == (200, False), path
        assert "its job could not be made" in may_not.get("/schedules").text
        assert "fail schedule" in may_not.get("/audit").text

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
