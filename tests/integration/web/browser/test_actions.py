"""What people do on the pages, with a mouse and a keyboard, in one process of `spoke-jobs web` that signs them in."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import EVERYBODY, TOKEN
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.filled_ledger import FAILED, add_schedule, claimed, fill
from tests.contract.ledger import new_job
from tests.integration.web.browser.browsing import OpenTab
from tests.integration.web.browser.conftest import Serve
from tests.integration.web.browser.tab import Tab

from spoke_jobs import Cron, Every
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import Mute
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobFilter, JobRequest

pytestmark = pytest.mark.long

WHO = "token"
"""The name under which the process records what people do who have signed in with a token."""


def state_of(ledger: SqlLedger, job: JobRequest) -> str:
    found = ledger.get(job.id)
    assert found is not None
    return found.state.value


def failed_job(ledger: SqlLedger, job_type: str) -> JobRequest:
    job = ledger.insert(new_job(job_type=job_type))
    claim = claimed(ledger, job_type)
    ledger.save(None, claim.token, {"": "7"})
    ledger.fail(claim.token, FAILED, decide=True)
    return job


def rows(tab: Tab) -> list[str]:
    """The first cell of each row of the page's table of jobs."""
    return tab.page.get_by_role("group", name="Jobs").locator("tbody th").all_inner_texts()


class TestSigningIn:
    def test_with_the_token_people_get_the_page_that_they_asked_for(self, open_tab: OpenTab, site: str) -> None:
        tab = open_tab(site)
        tab.open("/jobs?state=failed")
        assert tab.heading() == "Sign in"
        tab.expect_status(403)
        tab.page.get_by_label("Token").fill("not the token, but as long as one has to be")
        tab.button("Sign in").click()
        tab.see("This is not the token.")
        tab.page.get_by_label("Token").fill(TOKEN)
        tab.page.keyboard.press("Enter")
        tab.page.get_by_role("heading", name="Jobs", exact=True).wait_for()
        assert tab.path() == "/jobs?state=failed"
        tab.button("Sign out").click()
        tab.page.get_by_role("heading", name="Sign in").wait_for()
        tab.page.go_back()
        tab.page.get_by_role("heading", name="Sign in").wait_for()
        assert tab.page.locator("table").count() == 0, "what was shown before is not shown again"

    def test_a_page_that_is_open_while_its_session_ends_changes_nothing(
        self, open_tab: OpenTab, site: str, session: object, ledger: SqlLedger
    ) -> None:
        job = ledger.insert(new_job(job_type="kept"))
        tab = open_tab(site, storage_state=session)
        tab.open(f"/jobs/{job.id}")
        tab.page.context.clear_cookies()
        tab.expect_status(401)
        tab.page.get_by_text("Cancel this job").click()
        tab.button(f"Cancel job {job.id}").click()
        tab.see("you have to sign in")
        assert state_of(ledger, job) == "waiting"


@pytest.mark.parametrize(
    ("path", "form", "given", "button", "said", "action"),
    [
        ("/jobs/{waiting}", "Cancel this job", {}, "Cancel job {waiting}", "The job was cancelled.", "cancel"),
        ("/jobs/{running}", "Cancel this job", {}, "Cancel job {running}", "The job was asked to stop.", "cancel"),
        (
            "/jobs/{waiting}",
            "Change its priority",
            {"Priority": "-5"},
            "Set the priority of job {waiting}",
            "The job has this priority now.",
            "set priority",
        ),
        (
            "/jobs/{waiting}",
            "Suspend this job",
            {"Reason": "wait for the import"},
            "Suspend job {waiting}",
            "The job is suspended. A running attempt goes on.",
            "suspend job",
        ),
        ("/jobs/{failed}", "", {}, "Retry job {failed}", "The job starts again.", "retry"),
        ("/queues", "", {}, "Resume mail", "You ended the pause.", "resume"),
        ("/queues", "", {}, "Reset type:export_orders", "You reset the limit", "reset limit"),
        ("/schedules", "", {}, "Pause: nightly report", "You paused it", "pause schedule"),
        (
            "/schedules",
            "",
            {},
            "Resume: hourly report",
            "You resumed it, from its next due time on.",
            "resume schedule",
        ),
        ("/tasks/{task}", "", {}, "Retry task {task}", "The task is due again, with all its attempts.", "retry task"),
        ("/batches", "Close", {}, "Close batch 1", "The batch is closed", "close batch"),
    ],
)
def test_a_form(
    open_tab: OpenTab,
    serve: Serve,
    sqlite_ledger_url: str,
    path: str,
    form: str,
    given: dict[str, str],
    button: str,
    said: str,
    action: str,
) -> None:
    """What it does is under the name of who looks at it."""
    for ledger in open_ledger(sqlite_ledger_url):
        ids = asdict(fill(ledger))
        tab = open_tab(serve(sqlite_ledger_url, lambda _request: EVERYBODY, application=APPLICATION))
        tab.open(path.format_map(ids))
        if form:
            assert not tab.button(button.format_map(ids)).is_visible(), "nobody does it by one click"
            tab.page.locator("summary", has_text=form).first.click()
        for label, value in given.items():
            tab.page.get_by_label(label, exact=True).fill(value)
        tab.button(button.format_map(ids)).click()
        tab.see(re.compile(f"^{re.escape(said)}"))
        assert tab.findings() == []
        event = Queries(ledger.engine).events(1)[0]
        assert (event.action, event.actor) == (action, "ada")


@pytest.mark.parametrize(
    ("form", "given", "button", "said"),
    [
        (
            "Pause",
            {"Scope": "queue:mail", "Reason": "the partner is down", "It ends": "in 4 hours"},
            "Pause",
            "You paused it. Running jobs go on.",
        ),
        (
            "Set a limit",
            {"Scope": "type:export_orders", "Most running": "3", "Rate": "100/min", "Burst": "5"},
            "Set the limit",
            "You changed the limit.",
        ),
    ],
)
def test_a_form_about_a_scope(tab: Tab, form: str, given: dict[str, str], button: str, said: str) -> None:
    tab.open("/queues")
    found = tab.page.get_by_role("form", name=form)
    for label, value in given.items():
        if label == "It ends":
            found.get_by_label(label).select_option(value)
        else:
            field = found.get_by_label(re.compile(f"^{label}"))
            if label == "Scope":
                offered = field.evaluate("(field) => [...field.list.options].map((option) => option.value)")
                assert value in offered
            field.fill(value)
    found.get_by_role("button", name=button).click()
    tab.see(said)


class TestJobs:
    def test_filters_with_completion(self, tab: Tab, ledger: SqlLedger) -> None:
        jobs = [ledger.insert(new_job(job_type="filtered", queue_name="filters")) for _ in range(2)]
        ledger.insert(new_job(job_type="filtered_too"))
        tab.open("/jobs")
        field = tab.page.get_by_label("Type (* for any characters)")
        offered = field.evaluate("(field) => [...field.list.options].map((option) => option.value)")
        assert {"filtered", "filtered_too", "export_orders"} <= set(offered)
        offered = tab.page.get_by_label("Queue", exact=True).evaluate(
            "(field) => [...field.list.options].map((each) => each.value)"
        )
        assert "filters" in offered
        tab.page.get_by_label("State", exact=True).select_option("waiting")
        field.fill("filtered")
        field.press("Enter")
        tab.page.wait_for_url(re.compile("type=filtered&"))
        assert rows(tab) == [str(job.id) for job in reversed(jobs)]
        assert field.input_value() == "filtered"
        assert tab.page.get_by_label("State", exact=True).input_value() == "waiting"
        field.fill("filtered*")
        tab.button("Search").click()
        tab.page.wait_for_url(re.compile(r"type=filtered(\*|%2A)&"))
        assert len(rows(tab)) == 3
        tab.page.go_back()
        tab.page.wait_for_url(re.compile("type=filtered&"))
        tab.link("Clear").click()
        tab.page.wait_for_url("**/jobs")
        assert tab.page.get_by_label("State", exact=True).input_value() == ""

    def test_without_javascript(self, open_tab: OpenTab, site: str, session: object, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="without_scripts"))
        tab = open_tab(site, storage_state=session, java_script_enabled=False)
        tab.open("/jobs?type=without_scripts")
        assert not tab.page.get_by_label("Live updates").is_visible()
        tab.link(str(job.id)).click()
        tab.page.get_by_text("Cancel this job").click()
        tab.button(f"Cancel job {job.id}").click()
        tab.see("The job was cancelled.")
        assert state_of(ledger, job) == "failed"


class TestManyJobs:
    def test_cancel_what_filters_select(self, tab: Tab, ledger: SqlLedger) -> None:
        jobs = [ledger.insert(new_job(job_type="cancelled_together")) for _ in range(3)]
        other = ledger.insert(new_job(job_type="cancelled_never"))
        tab.open("/jobs?type=cancelled_together")
        tab.link("Cancel all unfinished jobs that match (preview)").click()
        tab.see("3 waiting jobs of the type cancelled_together")
        assert tab.heading() == "Cancel 3 jobs"
        tab.link("Back to these jobs").click()
        tab.page.get_by_role("heading", name="Jobs", exact=True).wait_for()
        assert [state_of(ledger, job) for job in jobs] == ["waiting"] * 3, "a preview changes nothing"
        tab.link("Cancel all unfinished jobs that match (preview)").click()
        tab.button("Cancel 3 jobs").click()
        tab.see("3 jobs were cancelled or asked to stop.")
        assert [state_of(ledger, job) for job in (*jobs, other)] == ["failed"] * 3 + ["waiting"]
        assert tab.findings() == []

    def test_from_a_group_of_failures_to_the_retry_of_all(self, tab: Tab) -> None:
        tab.open("/failures")
        tab.link("last 7 days").click()
        tab.page.wait_for_url("**/failures?within=7d")
        failure = tab.page.locator("section.failure", has_text="export_orders").first
        failure.locator("summary", has_text="Last output").click()
        assert "line 47, in export_orders" in failure.locator("pre").inner_text()
        failure.get_by_role("link", name=re.compile("^Retry all")).click()
        tab.see(re.compile(r"\d+ failed jobs of the type export_orders"))


class TestMutes:
    def mutes(self, ledger: SqlLedger, job_type: str) -> list[Mute]:
        with ledger.engine.connect() as connection:
            return [mute for mute in mute_rows.read_mutes(connection) if mute.job_type == job_type]

    def test_mute_a_group_and_end_the_mute(self, tab: Tab, ledger: SqlLedger) -> None:
        job = failed_job(ledger, "muted_here")
        with ledger.engine.begin() as connection:  # a group of its own
            changed = {"fingerprint": "ValueError@muted.here"}
            connection.execute(update(job_request).where(job_request.c.id == job.id).values(changed))
        about = "type muted_here, cause JobError, fingerprint ValueError@muted.here"
        tab.open("/failures?within=7d")
        group = tab.page.locator("section.failure", has_text="ValueError@muted.here")
        group.locator("summary", has_text=re.compile("^Mute$")).click()
        form = tab.page.get_by_role("form", name=f"Mute: {about}")
        form.get_by_label("How long").select_option("1 day")
        form.get_by_role("button", name="Mute").click()
        assert self.mutes(ledger, "muted_here") == [], "the browser asks for the reason"
        form.get_by_label("Reason").fill("fixed in release 43")
        form.get_by_label("Reason").press("Enter")
        tab.see("You muted these failures. Nobody gets notices about them until the mute ends.")
        (mute,) = self.mutes(ledger, "muted_here")
        assert (mute.cause, mute.fingerprint) == ("JobError", "ValueError@muted.here")
        assert (mute.reason, mute.muted_by) == ("fixed in release 43", WHO)
        assert timedelta(hours=23) < mute.until - mute.muted_at <= timedelta(days=1)
        assert tab.path().startswith("/failures?within=7d&")
        assert f"by {WHO}: fixed in release 43" in group.inner_text()
        assert group.locator("summary", has_text=re.compile("^Mute$")).count() == 0
        assert tab.findings() == []
        tab.button(f"End the mute {mute.id}: {about}").click()
        tab.see("You ended the mute. Failures from now on are reported again.")
        assert self.mutes(ledger, "muted_here") == []
        assert group.locator("summary", has_text=re.compile("^Mute$")).count() == 1


class TestSchedules:
    def test_run_now_also_by_a_double_click(self, tab: Tab, ledger: SqlLedger) -> None:
        add_schedule(ledger, "run here", Every(hours=1), queue_name="run_here")
        tab.open("/schedules")
        tab.button("Run now: run here").dblclick()
        tab.see(re.compile("Its schedule has dispatched this job"))
        (job,) = ledger.list_jobs(9, JobFilter(queue_name="run_here"))
        assert tab.path().startswith(f"/jobs/{job.id}?")

    def test_backfill_a_period_in_the_zone_of_the_schedule(self, tab: Tab, ledger: SqlLedger) -> None:
        nightly = Cron("0 3 * * *", timezone="America/New_York")
        add_schedule(ledger, "filled here", nightly, queue_name="filled_here")
        tab.open("/schedules")
        section = tab.page.get_by_role("region", name="filled here")
        section.locator("summary").click()
        tab.page.get_by_label("From (America/New_York): filled here").fill("2026-03-07T00:00")
        tab.button("Preview: filled here").click()
        assert tab.path() == "/schedules", "the browser asks for the end"
        tab.page.get_by_label("To (America/New_York): filled here").fill("2026-03-09T00:00")
        tab.button("Preview: filled here").click()
        tab.see("2 occurrences, of 10,000 at most")
        tab.see(re.compile("Sun 2026-03-08 03:00:00 EDT"))
        assert tab.findings() == []
        assert ledger.list_jobs(9, JobFilter(queue_name="filled_here")) == []
        tab.button("Backfill 2 occurrences").dblclick()
        tab.see(re.compile("of the occurrences that you saw"))
        tab.see("Each of them has a job already, so there is nothing to dispatch.")
        jobs = ledger.list_jobs(9, JobFilter(queue_name="filled_here"))
        due = [job.scheduled_for.isoformat() for job in jobs if job.scheduled_for is not None]
        assert sorted(due) == ["2026-03-07T08:00:00+00:00", "2026-03-08T07:00:00+00:00"], "the clocks change"
