"""When a job starts, on the dashboard's page *Job*."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
from tests.contract.dashboard_scene import EVERYBODY, ONE, DashboardScene, Open
from tests.contract.ledger import new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest

FORMS: dict[str, dict[str, str]] = {
    "run-now": {},
    "priority": {"priority": "5"},
    "suspend": {"reason": "wait"},
    "resume": {},
}
"""The forms, and what they send."""


class TestStarts(DashboardScene):
    """What the forms do that change when a job starts."""

    def test_a_job_that_waits_for_its_time_is_run_now(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.later(ledger)
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        assert f">Run job {job.id} now</button>" in browser.get(path).text
        answer = self.post(browser, f"{path}/run-now", path)
        assert answer.status_code == 303
        page = browser.get(answer.headers["location"]).text
        assert "The job is due now." in page
        assert f"Run job {job.id} now" not in page
        self.assert_unchanged(ledger, job, self.post(browser, f"{path}/run-now", path), "is due already")
        assert self.claimed(ledger).job.id == job.id
        self.assert_events(ledger, job, ("run now", "ada"))

    def test_a_priority_is_changed(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(priority=-2))
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        page = browser.get(path).text
        assert 'name="priority" type="number" min="-1000" max="1000" value="-2"' in page
        for _ in range(2):  # a form that is sent twice changes it once
            answer = self.post(browser, f"{path}/priority", path, priority="5")
            assert answer.status_code == 303
        assert "The job has this priority now." in browser.get(answer.headers["location"]).text
        assert ledger.get(job.id) == job.evolve(priority=5)
        self.assert_events(ledger, job, ("set priority", "ada"))

    def test_a_job_that_runs_offers_no_change_of_its_priority(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        self.claimed(ledger)
        assert 'name="priority"' not in browser.get(path).text
        self.assert_unchanged(ledger, job, self.post(browser, f"{path}/priority", path, priority="5"), "is running")

    def test_a_job_is_suspended_and_resumed(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        assert f">Resume job {job.id}</button>" not in browser.get(path).text
        for _ in range(2):  # a form that is sent twice does it once
            answer = self.post(browser, f"{path}/suspend", path, reason="wait for <b>it</b>")
            assert answer.status_code == 303
        page = browser.get(answer.headers["location"]).text
        assert "The job is suspended." in page
        assert "by ada: wait for &lt;b&gt;it&lt;/b&gt;" in page
        assert f">Suspend job {job.id}</button>" not in page
        assert self.claim_or_none(ledger) is None
        assert "is suspended" in browser.get("/").text
        answer = self.post(browser, f"{path}/resume", path)
        assert "The job is no longer suspended." in browser.get(answer.headers["location"]).text
        self.assert_unchanged(ledger, job, self.post(browser, f"{path}/resume", path), "is not suspended")
        assert self.claimed(ledger).job.id == job.id
        assert f">Suspend job {job.id}</button>" in browser.get(path).text, "no other attempt is to follow"
        self.assert_events(ledger, job, ("resume job", "ada"), ("suspend job", "ada"))

    def test_a_viewer_of_some_organizations_sees_why_a_job_is_suspended(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(organization_id=1))
        ledger.suspend(job.id, "wait for the import", "ada")
        assert "by ada: wait for the import" in browse(ONE).get(f"/jobs/{job.id}").text

    def later(self, ledger: SqlLedger, **changes: object) -> JobRequest:
        """A job that waits for its time."""
        return ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1), **changes))

    def assert_events(self, ledger: SqlLedger, job: JobRequest, *expected: tuple[str, str]) -> None:
        events = Queries(ledger.engine).events(9, EventFilter(job_id=job.id))
        assert [(event.action, event.actor) for event in events] == [*expected]

    def assert_unchanged(self, ledger: SqlLedger, job: JobRequest, answer: httpx.Response, why: str) -> None:
        assert answer.status_code == 409
        assert why in answer.text
        assert f'href="/jobs/{job.id}"' in answer.text
