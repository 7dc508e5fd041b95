"""Many jobs at once in the dashboard. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import unescape

import pytest
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, ONE, DashboardScene, Open, token_in
from tests.contract.ledger import new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobRequest


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the page's form."""
    form = unescape(page[page.index("<main") :])
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


class BulkContract(DashboardScene):
    """Cancel and retry what filters select."""

    def confirmed(self, browser: Browser, path: str, **more: str) -> str:
        """Look at the preview, and confirm it."""
        preview = browser.get(path)
        assert preview.status_code == 200, preview.text
        answer = browser.post(path.partition("?")[0], data=fields_of(preview.text) | more)
        assert answer.status_code == 200, answer.text
        return answer.text

    def states(self, ledger: SqlLedger, jobs: Iterable[JobRequest]) -> list[str]:
        found = [ledger.get(job.id) for job in jobs]
        return [job.state.value if job is not None else "gone" for job in found]

    def cancelled(self, ledger: SqlLedger, **changes: object) -> JobRequest:
        job = ledger.insert(new_job(**changes))
        ledger.cancel(job.id)
        return job

    def test_what_is_confirmed_is_cancelled_and_recorded(self, ledger: SqlLedger, browse: Open) -> None:
        running = ledger.insert(new_job(queue_name="q"))
        self.claimed(ledger)
        waiting = ledger.insert(new_job(queue_name="q"))
        blocked = ledger.insert(new_job(queue_name="q", after=(waiting.id,)))
        other = ledger.insert(new_job())
        page = self.confirmed(browse(EVERYBODY), "/bulk/cancel?queue=q")
        assert "3 jobs were cancelled or asked to stop." in page
        assert "What was not changed" not in page, "a dependent of a cancelled job is no problem"
        assert self.states(ledger, [running, waiting, blocked, other]) == ["running", "failed", "failed", "waiting"]
        found = ledger.get(running.id)
        assert found is not None
        assert found.cancel_requested_at is not None
        events = Queries(ledger.engine).events(9, EventFilter(action="cancel"))
        assert {(event.job_id, event.actor) for event in events} == {
            (job.id, "ada") for job in (running, waiting, blocked)
        }

    def test_jobs_after_a_failed_one_are_retried_after_it(self, ledger: SqlLedger, browse: Open) -> None:
        first = ledger.insert(new_job(job_type="export"))
        after = ledger.insert(new_job(job_type="export", after=(first.id,)))
        ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
        assert self.states(ledger, [after]) == ["failed"]
        page = self.confirmed(browse(EVERYBODY), "/bulk/retry?type=export")
        assert "2 jobs were started again." in page
        assert self.states(ledger, [first, after]) == ["waiting", "blocked"]

    def test_many_jobs_take_several_confirmations(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.AT_ONCE", 2)
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.CAP", 3)
        jobs = [ledger.insert(new_job()) for _ in range(5)]
        for _ in jobs:
            self.claimed(ledger)  # a running job that was asked to stop is not offered again
        browser, path, rounds = browse(EVERYBODY), "/bulk/cancel?type=report", 0
        page = browser.get(path).text
        assert "<h1>Cancel 3+ jobs</h1>" in page
        assert ">Cancel the newest 2 of 3+ jobs</button>" in page
        while path:
            page = self.confirmed(browser, path)
            rounds += 1
            found = re.search(r'<a href="([^"]+)">There are more jobs', page)
            path = found[1].replace("&amp;", "&") if found is not None else ""
        assert rounds == 3
        asked = [ledger.get(job.id) for job in jobs]
        assert all(job is not None and job.cancel_requested_at is not None for job in asked)
        events = Queries(ledger.engine).events(99, EventFilter(action="cancel"))
        assert len(events) == len(jobs)

    def test_only_jobs_that_were_compared_are_changed(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The confirmation begins lower than the preview. So it could compare jobs that the preview did not."""
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.SCATTERED", 3)
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.CAP", 2)
        names = ("export", "report", "export", "report", "report", "theirs")
        jobs = [ledger.insert(new_job(job_type=name)) for name in names]
        browser, path = browse(EVERYBODY), "/bulk/cancel?type=ex*"
        first = browser.get(path).text
        assert "None of these jobs can be cancelled." in first
        assert "compared with 3 jobs. Older jobs may match, too." in first
        assert "<form" not in first[first.index("<main") :]
        older = re.search(r'<a href="([^"]+)">Go on with older jobs', first)
        assert older is not None
        assert older[1] == f"/bulk/cancel?type=ex%2A&amp;up_to={jobs[3].id - 1}"
        ledger.insert(new_job(job_type="export"))
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.CAP", 1)
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.SCATTERED", 2)
        preview = browser.get(older[1].replace("&amp;", "&")).text
        assert "<h1>Cancel 1+ jobs</h1>" in preview
        assert fields_of(preview)["down_to"] == str(jobs[1].id)
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.SCATTERED", 99)
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.CAP", 99)
        page = browser.post("/bulk/cancel", data=fields_of(preview)).text
        assert "1 job was cancelled" in page
        assert self.states(ledger, jobs) == ["waiting", "waiting", "failed", *["waiting"] * 3]
        assert "Older jobs may match, too: go on" in page
        following = re.search(r'<a href="([^"]+)">Older jobs', page)
        assert following is not None
        self.confirmed(browser, following[1].replace("&amp;", "&"))
        assert self.states(ledger, jobs) == ["failed", "waiting", "failed", *["waiting"] * 3]

    def test_jobs_of_other_organizations_are_neither_counted_nor_changed(self, ledger: SqlLedger, browse: Open) -> None:
        theirs = ledger.insert(new_job(job_type="theirs", organization_id=2))
        nobodys = ledger.insert(new_job(job_type="theirs"))
        mine = ledger.insert(new_job(job_type="report", organization_id=1))
        browser = browse(ONE)
        preview = browser.get("/bulk/cancel?type=*").text
        assert "<h1>Cancel 1 job</h1>" in preview
        assert "theirs" not in preview
        ledger.insert(new_job(job_type="theirs", organization_id=2))
        again = browser.get("/bulk/cancel?type=*").text
        assert fields_of(again) == fields_of(preview), "nor is it told that others dispatch"
        for query in ("type=theirs", "organization=2"):
            page = browser.get(f"/bulk/cancel?{query}").text
            assert "can be changed so" in page
            assert "waiting job" not in page
        self.confirmed(browser, "/bulk/cancel?type=*")
        for filters in ("type=theirs", "organization=2"):
            answer = browser.post("/bulk/cancel", data=fields_of(preview) | {"filters": filters, "up_to": "99"})
            assert "0 jobs were" in answer.text
        assert self.states(ledger, [theirs, nobodys, mine]) == ["waiting", "waiting", "failed"]


class BulkPages(BulkContract):
    """What depends on no database."""

    def test_the_list_offers_it_for_filters_only(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(job_type="report"))
        browser = browse(EVERYBODY)
        assert "/bulk/" not in browser.get("/jobs").text, "nobody wants to cancel everything by mistake"
        both = browser.get("/jobs?type=report").text
        assert 'href="/bulk/cancel?type=report"' in both
        assert 'href="/bulk/retry?type=report"' in both
        waiting = browser.get("/jobs?state=waiting").text
        assert "/bulk/cancel?state=waiting" in waiting
        assert "/bulk/retry" not in waiting
        assert "/bulk/" not in browse(EVERYBODY.read_only()).get("/jobs?type=report").text

    def test_a_preview_says_what_is_hit_and_changes_nothing(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed(ledger, job_type="theirs")
        jobs = [ledger.insert(new_job(job_type=name)) for name in ("report", "report", "export")]
        page = browse(EVERYBODY).get("/bulk/cancel?type=*").text
        assert "<h1>Cancel 3 jobs</h1>" in page
        assert "<li>2 waiting jobs of the type report</li>" in page
        assert "<li>1 waiting job of the type export</li>" in page
        assert "theirs" not in page, "it has ended"
        assert self.states(ledger, jobs) == ["waiting"] * 3

    def test_a_retry_leaves_out_what_somebody_cancelled(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = [self.failed(ledger), self.failed(ledger), self.cancelled(ledger)]
        browser = browse(EVERYBODY)
        preview = browser.get("/bulk/retry?type=report").text
        assert "<h1>Retry 2 jobs</h1>" in preview
        assert "1 job that somebody cancelled is left out" in preview
        page = self.confirmed(browser, "/bulk/retry?type=report")
        assert "2 jobs were started again." in page
        assert self.states(ledger, jobs) == ["waiting", "waiting", "failed"]
        for query in ("type=report&cancelled=yes", "cause=Cancelled"):  # unless they are asked for
            assert "1 job was started again." in self.confirmed(browser, f"/bulk/retry?{query}")
            assert self.states(ledger, jobs) == ["waiting"] * 3
            ledger.cancel(jobs[2].id)

    def test_checkpoints_are_kept_unless_told(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = [ledger.insert(new_job()) for _ in range(2)]
        for _ in jobs:
            claim = self.claimed(ledger)
            ledger.save(None, claim.token, {"": "7"})
            ledger.fail(claim.token, Failure("JobError", "no", for_good=True), decide=True)
        browser = browse(EVERYBODY)
        self.confirmed(browser, "/bulk/retry?cause=JobError")
        assert [len(ledger.saved(job.id)) for job in jobs] == [1, 1]
        for _ in jobs:
            ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
        self.confirmed(browser, "/bulk/retry?cause=JobError", clear_checkpoints="yes")
        assert [len(ledger.saved(job.id)) for job in jobs] == [0, 0]

    def test_a_job_that_is_dispatched_after_the_preview_is_left_as_it_is(self, ledger: SqlLedger, browse: Open) -> None:
        browser = browse(EVERYBODY)
        old = ledger.insert(new_job())
        for more in ("", "&up_to=999999"):  # an address cannot extend the preview to later jobs
            preview = browser.get(f"/bulk/cancel?type=report{more}").text
            new = ledger.insert(new_job())
            browser.post("/bulk/cancel", data=fields_of(preview))
            assert self.states(ledger, [old, new]) == ["failed", "waiting"]
            old = new

    def test_what_cannot_be_changed_is_named(self, ledger: SqlLedger, browse: Open) -> None:
        first = self.failed(ledger, unique_key="k")
        second = ledger.insert(new_job(unique_key="k"))
        page = self.confirmed(browse(EVERYBODY), "/bulk/retry?type=report")
        assert "0 jobs were started again." in page
        assert f'<li><a href="/jobs/{first.id}">{first.id}</a>: ' in page
        assert f"job {second.id}" in page, "the one that has the key"

    def test_a_confirmation_ends_in_time_also_if_all_jobs_are_refused(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.SECONDS", -1.0)
        monkeypatch.setattr("spoke_jobs.web.bulk_pages.AT_ONCE", 3)
        older = self.failed(ledger)
        first = ledger.insert(new_job(job_type="export"))
        jobs = [ledger.insert(new_job(job_type="report", after=(first.id,))) for _ in range(3)]
        ledger.cancel(first.id)
        browser = browse(EVERYBODY)
        page = self.confirmed(browser, "/bulk/retry?type=report")
        assert page.count("which has failed: retry that one") == 1, "one was refused, and the others were not tried"
        assert "2 other jobs of this part were not tried" in page
        assert self.states(ledger, [older, *jobs]) == ["failed"] * 4
        following = re.search(r'<a href="([^"]+)">There are more jobs', page)
        assert following is not None
        page = self.confirmed(browser, following[1].replace("&amp;", "&"))
        assert "1 job was started again." in page, "the refused jobs are not tried again"
        assert "There are more jobs" not in page
        assert "not tried" not in page
        assert self.states(ledger, [older, *jobs]) == ["waiting", *["failed"] * 3]

    def test_forms_that_do_not_say_which_jobs(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = [self.failed(ledger, job_type="export"), ledger.insert(new_job())]
        browser = browse(EVERYBODY)
        form = {"token": token_in(browser.get("/jobs/1")), "up_to": "9"}
        for path in ("/bulk/cancel", "/bulk/retry"):
            for filters in ("", "state=gone&type=report", "id=1", "id=1&type=report", "organization=x"):
                answer = browser.get(f"{path}?{filters}")
                assert answer.status_code == 400, filters
                assert "<form" not in answer.text[answer.text.index("<main") :]
                assert browser.post(path, data=form | {"filters": filters}).status_code == 400
            for up_to in ("", "x", "-1"):
                assert browser.post(path, data=form | {"filters": "type=*", "up_to": up_to}).status_code == 400
        assert self.states(ledger, jobs) == ["failed", "waiting"]

    def test_a_job_of_another_organization_is_not_named(self, ledger: SqlLedger, browse: Open) -> None:
        theirs = ledger.insert(new_job(job_type="theirs", organization_id=2))
        mine = ledger.insert(new_job(job_type="report", organization_id=1, after=(theirs.id,)))
        ledger.cancel(theirs.id)
        page = self.confirmed(browse(ONE), "/bulk/retry?type=report")
        assert "Another job stands in its way." in page
        assert "theirs" not in page
        assert not re.search(rf"\b(job {theirs.id}|jobs/{theirs.id})\b", page)
        assert self.states(ledger, [mine]) == ["failed"]
