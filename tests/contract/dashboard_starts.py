"""When a job starts, on the dashboard's page *Job*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
from tests.contract.dashboard_scene import EVERYBODY, ONE, DashboardScene, Open
from tests.contract.ledger import new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest
from spoke_jobs.web import JobAction


class StartsContract(DashboardScene):
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
        assert self.claimed(ledger).job.id == job.id
        self.assert_events(ledger, job, ("run now", "ada"))

    def test_a_form_that_is_sent_twice_runs_it_once(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.later(ledger)
        browser, path = browse(EVERYBODY), f"/jobs/{job.id}"
        self.post(browser, f"{path}/run-now", path)
        self.assert_unchanged(ledger, job, self.post(browser, f"{path}/run-now", path), "is due already")
        self.assert_events(ledger, job, ("run now", "ada"))

    def test_who_may_change_when_a_job_starts(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.later(ledger)
        for name in ("run-now",):
            path = f"/jobs/{job.id}"
            self.assert_forms_are_checked(browse, f"{path}/{name}", path, JobAction.START)
        assert ledger.get(job.id) == job

    def test_jobs_of_other_organizations_are_not_changed(self, ledger: SqlLedger, browse: Open) -> None:
        mine, theirs = self.later(ledger, organization_id=1), self.later(ledger, organization_id=2)
        browser = browse(ONE)
        for name in ("run-now",):
            for job_id in (theirs.id, 999):
                answer = self.post(browser, f"/jobs/{job_id}/{name}", f"/jobs/{mine.id}")
                assert answer.status_code == 404
        assert ledger.get(theirs.id) == theirs

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
