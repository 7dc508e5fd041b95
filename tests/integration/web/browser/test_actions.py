"""What people do on the pages, with a mouse and a keyboard, in one process of `spoke-jobs web` that signs them in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from tests.contract.dashboard_scene import TOKEN
from tests.contract.filled_ledger import FAILED, add_schedule, claimed, failed_task, put_task
from tests.contract.ledger import new_job
from tests.integration.web.browser.browsing import OpenTab
from tests.integration.web.browser.tab import Tab

from spoke_jobs import Cron, Every
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import Mute, NewMute
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, task_outbox
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope
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


def limit_of(ledger: SqlLedger, scope: str) -> JobLimit | None:
    return next((limit for limit in ledger.limits.all() if limit.scope == parse_scope(scope)), None)


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

    def test_a_filter_that_is_wrong_is_marked(self, tab: Tab) -> None:
        tab.open("/jobs")
        tab.expect_status(400)
        tab.page.get_by_label("Organization").fill("seven")
        tab.button("Search").click()
        tab.see("Correct the filters that are marked.")
        field = tab.page.get_by_label("Organization")
        assert field.get_attribute("aria-invalid") == "true"
        assert field.input_value() == "seven"

    def test_an_id_leads_to_the_job(self, tab: Tab, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="by_id"))
        tab.open("/jobs")
        tab.page.get_by_label("Id", exact=True).fill(str(job.id))
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url(f"**/jobs/{job.id}")
        assert tab.heading() == f"Job {job.id}: by_id"

    def test_there_are_older_and_newer_pages(self, tab: Tab) -> None:
        tab.open("/jobs?queue=mail")
        first = rows(tab)
        assert len(first) == 50
        tab.link("Older jobs").click()
        tab.link("Newer jobs").wait_for()
        assert not set(first) & set(rows(tab))
        tab.link("Newer jobs").click()
        tab.link("Older jobs").wait_for()
        assert rows(tab) == first

    def test_cancel_one(self, tab: Tab, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="cancelled_alone"))
        tab.open(f"/jobs/{job.id}")
        button = tab.button(f"Cancel job {job.id}")
        assert not button.is_visible(), "nobody cancels a job by one click"
        tab.page.get_by_text("Cancel this job").click()
        button.click()
        tab.see("The job was cancelled.")
        assert state_of(ledger, job) == "failed"
        (event,) = Queries(ledger.engine).events(9, EventFilter(job_id=job.id))
        assert (event.action, event.actor) == ("cancel", WHO)

    def test_cancel_one_that_runs(self, tab: Tab, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="asked_to_stop"))
        claimed(ledger, "asked_to_stop")
        tab.open(f"/jobs/{job.id}")
        tab.page.get_by_text("Cancel this job").click()
        tab.button(f"Cancel job {job.id}").click()
        tab.see("The job was asked to stop.")
        found = ledger.get(job.id)
        assert found is not None
        assert found.cancel_requested_at is not None

    def test_run_one_now(self, tab: Tab, ledger: SqlLedger) -> None:
        later = Queries(ledger.engine).now() + timedelta(hours=1)
        job = ledger.insert(new_job(job_type="run_now", run_after=later))
        tab.open(f"/jobs/{job.id}")
        tab.button(f"Run job {job.id} now").click()
        tab.see("The job is due now.")
        assert tab.button(f"Run job {job.id} now").count() == 0
        found = ledger.get(job.id)
        assert found is not None
        assert found.run_after is not None
        assert found.run_after < later
        assert tab.findings() == []

    def test_change_a_priority(self, tab: Tab, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="prioritized"))
        tab.open(f"/jobs/{job.id}")
        tab.page.get_by_text("Change its priority").click()
        field, button = tab.page.get_by_label("Priority", exact=True), tab.button(f"Set the priority of job {job.id}")
        field.fill("1001")
        button.click()
        assert ledger.get(job.id) == job, "the browser asks for another number"
        assert tab.findings() == []
        field.fill("-5")
        field.press("Enter")
        tab.see("The job has this priority now.")
        assert ledger.get(job.id) == job.evolve(priority=-5)

    def test_suspend_one_and_resume_it(self, tab: Tab, ledger: SqlLedger) -> None:
        job = ledger.insert(new_job(job_type="suspended"))
        tab.open(f"/jobs/{job.id}")
        button = tab.button(f"Suspend job {job.id}")
        assert not button.is_visible()
        tab.page.get_by_text("Suspend this job").click()
        tab.page.get_by_label("Reason", exact=True).fill("wait for the import")
        button.click()
        tab.see("The job is suspended. A running attempt goes on.")
        assert tab.sees(f"by {WHO}: wait for the import")
        assert tab.findings() == []
        tab.button(f"Resume job {job.id}").click()
        tab.see("The job is no longer suspended.")
        events = Queries(ledger.engine).events(9, EventFilter(job_id=job.id))
        assert [(event.action, event.actor) for event in events] == [("resume job", WHO), ("suspend job", WHO)]

    @pytest.mark.parametrize("clear", [False, True])
    def test_retry_one(self, tab: Tab, ledger: SqlLedger, clear: bool) -> None:
        job = failed_job(ledger, f"retried_{clear}".lower())
        tab.open(f"/jobs/{job.id}")
        if clear:
            tab.page.get_by_label("Start from the beginning: forget checkpoints and steps").check()
        tab.button(f"Retry job {job.id}").click()
        tab.see("The job starts again.")
        assert state_of(ledger, job) == "waiting"
        assert len(ledger.saved(job.id)) == (0 if clear else 1)

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

    def test_retry_what_filters_select(self, tab: Tab, ledger: SqlLedger) -> None:
        jobs = [failed_job(ledger, "retried_together") for _ in range(2)]
        tab.open("/jobs?type=retried_together&state=failed")
        tab.link("Retry all failed jobs that match (preview)").click()
        tab.page.get_by_label("Start from the beginning: forget checkpoints and steps").check()
        tab.button("Retry 2 jobs").click()
        tab.see("2 jobs were started again.")
        assert [state_of(ledger, job) for job in jobs] == ["waiting"] * 2
        assert [list(ledger.saved(job.id)) for job in jobs] == [[], []]
        tab.link("Back to these jobs").click()
        tab.see("No job matches these filters.")

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

    def test_mutes_of_other_failures(self, tab: Tab, ledger: SqlLedger) -> None:
        end = Queries(ledger.engine).now() + timedelta(hours=1)
        with ledger.engine.begin() as connection:
            mute_rows.add_mute(connection, NewMute(job_type="muted_elsewhere", until=end, reason="it is slow"), "grace")
        (mute,) = self.mutes(ledger, "muted_elsewhere")
        tab.open("/failures")
        section = tab.page.get_by_role("region", name="Other mutes")
        assert "by grace: it is slow" in section.inner_text()
        assert tab.findings() == []
        section.get_by_role("button", name=f"End the mute {mute.id}: type muted_elsewhere").click()
        tab.see("You ended the mute. Failures from now on are reported again.")
        assert self.mutes(ledger, "muted_elsewhere") == []


class TestQueuesAndLimits:
    def test_pause_and_resume_a_queue(self, tab: Tab, ledger: SqlLedger) -> None:
        ledger.insert(new_job(job_type="paused", queue_name="partner"))
        tab.open("/queues")
        form = tab.page.get_by_role("form", name="Pause")
        scope = form.get_by_label("Scope")
        offered = scope.evaluate("(field) => [...field.list.options].map((option) => option.value)")
        assert {"queue:partner", "queue:mail", "type:export_orders"} <= set(offered)
        scope.fill("queue:partner")
        form.get_by_role("button", name="Pause").click()
        assert limit_of(ledger, "queue:partner") is None, "the browser asks for the reason"
        form.get_by_label(re.compile("^Reason")).fill("the partner is down")
        form.get_by_label("It ends").select_option("in 4 hours")
        form.get_by_role("button", name="Pause").click()
        tab.see("You paused it. Running jobs go on.")
        found = limit_of(ledger, "queue:partner")
        assert found is not None
        assert found.pause is not None
        assert (found.pause.reason, found.pause.by) == ("the partner is down", WHO)
        assert found.pause.until is not None
        tab.button("Resume partner").click()
        tab.see("You ended the pause.")
        found = limit_of(ledger, "queue:partner")
        assert found is None or found.pause is None

    def test_set_and_reset_a_limit(self, tab: Tab, ledger: SqlLedger) -> None:
        ledger.insert(new_job(job_type="bounded"))
        tab.open("/queues")
        form = tab.page.get_by_role("form", name="Set a limit")
        form.get_by_label("Scope").fill("type:bounded")
        form.get_by_label("Most running at once (none: no limit)").fill("3")
        form.get_by_label("Rate, as in 100/min (none: no rate)").fill("100/min")
        form.get_by_label("Burst of the rate").fill("5")
        form.get_by_label("Burst of the rate").press("Enter")
        tab.see("You changed the limit.")
        found = limit_of(ledger, "type:bounded")
        assert found is not None
        assert found.bounds == Bounds(3, Rate.parse("100/min", 5))
        tab.button("Reset type:bounded").click()
        tab.see(re.compile("^You reset the limit"))
        assert limit_of(ledger, "type:bounded") is None

    def test_what_cannot_be_done_says_why(self, tab: Tab, ledger: SqlLedger) -> None:
        tab.open("/queues")
        tab.expect_status(400)
        form = tab.page.get_by_role("form", name="Set a limit")
        form.get_by_label("Scope").fill("type:bounded")
        form.get_by_label("Rate, as in 100/min (none: no rate)").fill("fast")
        form.get_by_role("button", name="Set the limit").click()
        assert "fast" in tab.page.get_by_role("alert").inner_text()
        assert tab.findings() == []
        tab.link("Back to queues and limits").click()
        tab.page.get_by_role("heading", name="Queues and limits").wait_for()


class TestSchedules:
    def state(self, ledger: SqlLedger, name: str) -> schedule_rows.ScheduleRow:
        with ledger.engine.connect() as connection:
            (found,) = schedule_rows.read_schedules(connection, name)
        return found

    def test_pause_and_resume(self, tab: Tab, ledger: SqlLedger) -> None:
        add_schedule(ledger, "paused here", Every(hours=1))
        tab.open("/schedules")
        tab.button("Pause: paused here").click()
        tab.see(re.compile("^You paused it"))
        assert self.state(ledger, "paused here").paused_by == WHO
        tab.button("Resume: paused here").click()
        tab.see("You resumed it, from its next due time on.")
        assert self.state(ledger, "paused here").paused_at is None

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


class TestBatches:
    def test_close(self, tab: Tab, ledger: SqlLedger) -> None:
        batch = ledger.open_batch("closed here")
        ledger.insert(new_job(job_type="of_a_batch", batch_id=batch.id))
        tab.open("/batches?name=closed*")
        row = tab.page.get_by_role("row", name="closed here")
        row.locator("summary", has_text="Close").click()
        tab.button(f"Close batch {batch.id}").click()
        tab.see("The batch is closed: it finishes with the last of its jobs.")
        found = ledger.batch(batch.id)
        assert found is not None
        assert found.state == "closed"

    def test_cancel_with_all_its_jobs(self, tab: Tab, ledger: SqlLedger) -> None:
        batch = ledger.open_batch("cancelled here", new_job(job_type="after_a_batch"))
        jobs = ledger.insert_many([new_job(job_type="of_a_batch", batch_id=batch.id) for _ in range(2)])
        tab.open("/batches?name=cancelled*")
        tab.page.get_by_role("row", name="cancelled here").locator("summary", has_text="Cancel").click()
        tab.button(f"Cancel batch {batch.id}").click()
        tab.button("Cancel 2 jobs").click()
        tab.see("2 jobs were cancelled or asked to stop.")
        assert [state_of(ledger, job) for job in jobs] == ["failed"] * 2


class TestTasks:
    def test_retry(self, tab: Tab, ledger: SqlLedger) -> None:
        task_id = failed_task(ledger, "retried_task")
        tab.open("/tasks?name=retried_task")
        tab.link(str(task_id)).click()
        tab.button(f"Retry task {task_id}").click()
        tab.see("The task is due again, with all its attempts.")
        with ledger.engine.connect() as connection:
            found = connection.scalar(select(task_outbox.c.state).where(task_outbox.c.id == task_id))
        assert found == "pending"

    def test_filters(self, tab: Tab, ledger: SqlLedger) -> None:
        put_task(ledger, "filtered_task")
        tab.open("/tasks")
        tab.page.get_by_label("Name (* for any characters)").fill("filtered_*")
        tab.page.get_by_label("State", exact=True).select_option("due")
        tab.button("Search").click()
        tab.page.wait_for_url("**/tasks?*filtered_*")
        names = tab.page.locator("tbody td:nth-child(2)").all_inner_texts()
        assert names == ["filtered_task"]


def test_what_people_have_done_is_listed_under_their_name(tab: Tab, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="audited"))
    tab.open(f"/jobs/{job.id}")
    tab.page.get_by_text("Cancel this job").click()
    tab.button(f"Cancel job {job.id}").click()
    tab.see("The job was cancelled.")
    tab.link("Audit").click()
    tab.page.get_by_label("Type (* for any characters)").fill("audited")
    tab.page.get_by_label("Action", exact=True).select_option("cancel")
    tab.button("Search").click()
    (cells,) = [row.locator("td").all_inner_texts() for row in tab.page.locator("tbody tr").all()]
    assert cells[1:5] == [WHO, "cancel", str(job.id), "audited"]
