"""The dashboard's page *Schedules*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.contract import scheduled_app
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, ONE, DashboardScene, Open, paged
from tests.contract.ledger import new_job

from spoke_jobs import Cron, Every
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_schedule
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.schedules.occurrences import Skip, SkipReason
from spoke_jobs.web import JobAction, Viewer
from spoke_jobs.web.job_search import encoded
from spoke_jobs.web.view_parts import limit_id

APPLICATION = "tests.contract.scheduled_app:registry"
HOURLY = Every(hours=1)


class ScheduleScene(DashboardScene):
    """Makes, changes and reads schedules."""

    def add(self, ledger: SqlLedger, name: str, timing: Cron | Every = HOURLY, **options: Any) -> None:
        schedule = scheduled_app.registry.make_schedule(name, "report", timing, None, options)
        with ledger.engine.begin() as connection:
            schedule_rows.put(connection, "legacy", schedule, "grace")

    def change(self, ledger: SqlLedger, name: str, **values: Any) -> None:
        self.alter(ledger, job_schedule, job_schedule.c.name == name, **values)

    def row(self, ledger: SqlLedger, name: str) -> ScheduleRow:
        with ledger.engine.connect() as connection:
            (found,) = schedule_rows.read_schedules(connection, name)
        return found

    def send(self, browser: Browser, action: str, name: str) -> Any:
        return self.post(browser, f"/schedules/{action}", "/schedules", schedule=encoded(name))


class SchedulesContract(ScheduleScene):
    """What is due when, and what people change about it."""

    def test_a_schedule_with_a_problem_is_on_the_overview_and_marked(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        for name, organization in (("missed & %", 1), ("fine", 1), ("theirs", 2), ("weekly", None), ("due", None)):
            self.add(ledger, name, organization_id=organization)
        missed = schedule_rows.skip_to_json(Skip(SkipReason.MISSED, now, now))
        for name in ("missed & %", "theirs"):
            self.change(ledger, name, last_skip=missed)
        old = schedule_rows.skip_to_json(Skip(SkipReason.MISSED, now - timedelta(days=2), now - timedelta(days=2)))
        self.change(ledger, "fine", last_skip=old)
        self.change(ledger, "weekly", error="the payload has secret-value", last_skip=old)
        self.change(ledger, "due", next_due_at=now - timedelta(minutes=5))
        browser = browse(EVERYBODY)
        page = browser.get("/").text
        assert re.findall(r'href="(/schedules[^"]*)">([^<]+)</a>: ', page) == [
            *(("/schedules?name=due", "due"), ("/schedules?name=missed+%26+%25", "missed &amp; %")),
            *(("/schedules?name=theirs", "theirs"), ("/schedules?name=weekly", "weekly")),
        ]
        assert page.count("ran at that time") == 2
        assert (
            f"<code>spoke-jobs schedules backfill theirs --from {now.isoformat()} --to {now.isoformat()}</code>" in page
        )
        assert "it is due, and no process has dispatched its job" in page
        assert "could not be made: the payload has secret-value" in page
        schedules = browser.get("/schedules").text
        assert schedules.count(">with a problem<") == 4
        assert re.search(r'With a problem: <a href="/schedules\?name=due">due</a>, <a ', schedules)
        alone = browser.get("/schedules?name=missed+%26+%25").text
        assert re.findall(r"<h2[^>]*>([^<]+)</h2>", alone) == ["missed &amp; %"]
        assert '<a href="/schedules">All schedules</a>' in alone
        one = browse(ONE)
        for path in ("/", "/schedules"):
            page = one.get(path).text
            assert re.findall(r'href="/schedules\?name=([^"]+)"', page) == ["missed+%26+%25"]
            assert "theirs" not in page
        assert "There is no schedule" in one.get("/schedules?name=theirs").text
        without = browse(Viewer(name="ada", organizations=None)).get("/").text
        assert "secret-value" not in without

    def test_schedules_have_pages(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.web.schedule_pages.PER_PAGE", 2)
        names = [f"s{number} & %" for number in range(5)]
        for number, name in enumerate(names):
            self.add(ledger, name, organization_id=number % 2)
        for viewer, expected in ((EVERYBODY, names), (ONE, names[1::2])):
            shown = [re.findall(r"<h2[^>]*>(s\d &amp; %)</h2>", page) for page in paged(browse(viewer), "/schedules")]
            assert all(len(names) <= 2 for names in shown)
            assert [unescape(name) for names in shown for name in names] == expected

    def test_a_page_looks_through_a_bounded_number_of_schedules_of_others(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.SCHEDULES_LOOKED_THROUGH", 6)
        monkeypatch.setattr("spoke_jobs.web.schedule_pages.PER_PAGE", 2)
        reads: list[str] = []

        def counted(connection: Any, name: str, limit: int, **only: Any) -> list[ScheduleRow]:
            found = schedule_rows.schedules_after(connection, name, limit, **only)
            reads.extend(row.name for row in found)
            return found

        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.schedules_after", counted)
        for number in range(20):
            self.add(ledger, f"s{number:02}", organization_id=1 if number in (1, 6) else 2)
        found = [*paged(browse(ONE), "/schedules")]
        assert {*reads} == {"s01", "s06"}, "the database leaves out the others"
        seen = [name for page in found for name in re.findall(r"<h2[^>]*>(s\d+)</h2>", page)]
        assert seen == ["s01", "s06"], "a page goes on at the last one that was shown"
        assert "There may be more" in found[-1]
        assert "There may be more" not in browse(EVERYBODY).get("/schedules").text

    def test_run_now_pressed_twice_dispatches_one_job(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        for number in (1, 2):
            form = self.run_form(browser)
            first, second = (browser.post("/schedules/run", data=form) for _ in range(2))
            jobs = sorted(job.id for job in ledger.list_jobs())
            assert len(jobs) == number, "one for each time that the page was read"
            assert first.headers["location"] == f"/jobs/{jobs[-1]}?said=dispatched"
            assert second.headers["location"] == f"/jobs/{jobs[-1]}?said=repeated"
            assert "dispatched no other one" in browser.get(second.headers["location"]).text
        assert self.events(ledger, "run schedule") == [("ada", "hourly")] * 2

    def run_form(self, browser: Browser) -> dict[str, str]:
        """The fields of the form that runs the only schedule."""
        (form,) = re.findall(
            r'<form method="post" action="/schedules/run">(.*?)</form>', browser.get("/schedules").text, re.S
        )
        return dict(re.findall(r'name="([^"]+)" value="([^"]*)"', unescape(form)))


class SchedulePages(SchedulesContract):
    """What depends on no database."""

    def test_schedules_in_words_and_in_their_zone(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "nightly", Cron("0 3 * * *", timezone="America/New_York"))
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY)
        page = browser.get("/schedules").text
        assert "At 03:00 every day (America/New_York)" in page
        assert re.search(r", \w{3} [0-9-]+ 03:00:00 E[SD]T<", page), "in its own zone"
        browser.cookies.set("spoke-jobs-zone", "America/Phoenix")  # without daylight-saving time
        local = r", \w{3} [0-9-]+ 03:00:00 (?:EST \(\w{3} [0-9-]+ 01|EDT \(\w{3} [0-9-]+ 00):00:00 MST\)<"
        assert re.search(local, browser.get("/schedules").text), "and in the reader's"
        assert len(re.findall(r"[A-Z][a-z]{2} \d{4}-\d\d-\d\d 03:00:00 E[SD]T", page)) == 3, "the next due times"
        assert page.index(">hourly<") < page.index(">nightly<")
        assert page.count('<span class="state active">active</span>') == 2
        assert "Run now" not in page, "the dashboard knows no application"

    def test_what_is_wrong_comes_with_advice(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        for name in ("orphan", "missed", "wrong"):
            self.add(ledger, name)
        self.change(ledger, "orphan", served_at=now - timedelta(hours=1))
        missed = schedule_rows.skip_to_json(Skip(SkipReason.MISSED, now, now))
        self.change(ledger, "missed", last_skip=missed)
        self.change(ledger, "wrong", error="the payload has secret-value")
        browser = browse(EVERYBODY)
        page = browser.get("/schedules").text
        assert "no process that runs can dispatch its jobs" in page
        assert "spoke-jobs schedules rm orphan" in page
        assert re.search(
            r"\d\d:\d\d:\d\d: no process that dispatches it \(a worker, or sync\) ran at that time", page
        ), "no ISO time"
        assert "spoke-jobs schedules backfill missed" in page
        assert "secret-value" in page
        without = browse(Viewer(name="ada", organizations=None)).get("/schedules").text
        assert "secret-value" not in without
        assert "its job could not be made" in without

    def test_the_advice_leads_to_the_preview_of_the_backfill(self, ledger: SqlLedger, browse: Open) -> None:
        """Of the due times that were skipped, which nobody has to type."""
        last = (Queries(ledger.engine).now() - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
        first = last - timedelta(hours=2)
        for name, reason in (("missed", SkipReason.MISSED), ("overlap", SkipReason.OVERLAP), ("fine", None)):
            self.add(ledger, name, Cron("0 * * * *", timezone="Asia/Kolkata"), organization_id=1)
            if reason is not None:
                self.change(ledger, name, last_skip=schedule_rows.skip_to_json(Skip(reason, first, last)))
        self.change(ledger, "missed", next_due_at=last + timedelta(hours=2))
        browser = browse(EVERYBODY, application=APPLICATION)
        page = browser.get("/schedules").text
        (path,) = re.findall(r'</code>. Or preview <a href="([^"]+)" aria-label="the backfill of what', page)
        section = re.search(r"<section[^>]*>\s*<h2[^>]*>missed</h2>.*?</section>", page, re.S)
        assert section is not None
        assert path in section[0]
        preview = browser.get(unescape(path)).text
        assert "<h1>Backfill missed</h1>" in preview
        assert "<dt>In this period</dt><dd>2 occurrences, of 10,000 at most</dd>" in preview
        zone = ZoneInfo("Asia/Kolkata")
        fields = [f'value="{when.astimezone(zone):%Y-%m-%dT%H:%M}"' for when in (first, last)]
        assert re.findall(r'type="datetime-local" (value="[^"]+")', page) == fields, "so has the form"
        theirs = browse(ONE, application=APPLICATION).get("/schedules").text
        assert "If these jobs are needed, preview <a href=" in theirs, "without commands"
        for browser in (browse(EVERYBODY), browse(EVERYBODY.read_only(), application=APPLICATION)):
            page = browser.get("/schedules").text
            assert "/schedules/backfill" not in page, "they may not"
            assert "Run now" not in page

    def test_the_last_job_has_its_state(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly", organization_id=1)
        job = self.failed(ledger, organization_id=1)
        self.change(ledger, "hourly", last_due_at=Queries(ledger.engine).now(), last_job_id=job.id)
        last = f'<a href="/jobs/{job.id}">job {job.id}</a> <span class="state failed">failed</span>'
        assert last in browse(ONE).get("/schedules").text
        self.change(ledger, "hourly", last_job_id=self.failed(ledger, organization_id=2).id)
        assert '<span class="state failed">' not in browse(ONE).get("/schedules").text

    def test_a_pause_of_its_type_is_said(self, ledger: SqlLedger, browse: Open) -> None:
        """The schedule is active, and its jobs do not start."""
        self.add(ledger, "hourly", organization_id=1)
        scope = parse_scope("type:report")
        ledger.limits.pause(scope, "a broken printer", "grace")
        said = rf'<a href="/queues#{limit_id("type:report")}">type:report is paused: [^<]*a broken printer'
        assert re.search(said, browse(EVERYBODY).get("/schedules").text)
        page = browse(ONE).get("/schedules").text
        assert ">hourly</h2>" in page
        assert "printer" not in page, "limits concern all organizations"
        ledger.limits.resume(scope, "grace")
        assert "is paused" not in browse(EVERYBODY).get("/schedules").text

    def test_a_bounded_number_of_schedules_is_looked_through_for_problems(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b", "c"):
            self.add(ledger, name)
            self.change(ledger, name, served_at=None)
        browser = browse(EVERYBODY)
        more = "There may be more: see"
        assert more not in browser.get("/").text
        monkeypatch.setattr("spoke_jobs.web.schedule_views.TROUBLES_SHOWN", 2)
        page = browser.get("/").text
        assert more in page
        assert page.count('href="/schedules?name=') == 2
        monkeypatch.setattr("spoke_jobs.web.schedule_views.TROUBLES_SHOWN", 9)
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.TROUBLED_LOOKED_THROUGH", 1)
        page = browser.get("/").text
        assert more in page
        assert page.count('href="/schedules?name=') == 1

    def test_a_definition_that_cannot_be_read(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "odd")
        self.change(ledger, "odd", definition={"timing": {"cron": 7}})
        browser = browse(EVERYBODY, application=APPLICATION)
        page = browser.get("/schedules").text
        assert "its definition can&#39;t be read" in page
        assert "Run now" not in page
        assert self.send(browser, "run", "odd").status_code == 409

    def test_pause_and_resume(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY)
        assert self.send(browser, "pause", "hourly").headers["location"] == "/schedules?said=paused"
        paused = self.row(ledger, "hourly")
        assert (paused.paused_at is not None, paused.paused_by) == (True, "ada")
        page = browser.get("/schedules?said=paused").text
        assert "You paused it" in page
        assert "not until somebody resumes it" in page
        assert self.send(browser, "resume", "hourly").headers["location"] == "/schedules?said=resumed"
        assert self.row(ledger, "hourly").paused_at is None
        stale = browser.get("/schedules?said=paused").text
        assert "You paused it" in stale
        assert "is paused" not in stale, "somebody has resumed it since"
        assert self.events(ledger, "pause schedule") == [("ada", "hourly")]
        assert self.events(ledger, "resume schedule") == [("ada", "hourly")]

    def test_run_now(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly", queue_name="reports")
        before = self.row(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        assert "Run now" in browser.get("/schedules").text
        answer = self.send(browser, "run", "hourly")
        (job,) = ledger.list_jobs()
        assert (job.job_type, job.queue_name, job.schedule, job.payload) == (
            *("report", "reports", "hourly"),
            '{"day":"today"}',
        )
        assert answer.headers["location"] == f"/jobs/{job.id}?said=dispatched"
        assert "has dispatched this job now" in browser.get(answer.headers["location"]).text
        after = self.row(ledger, "hourly")
        assert (after.last_job_id, after.next_due_at) == (job.id, before.next_due_at), "its due times stay"
        assert f'<a href="/jobs/{job.id}">job {job.id}</a>' in browser.get("/schedules").text
        assert self.events(ledger, "run schedule") == [("ada", "hourly")]

    def test_run_now_on_a_page_that_is_out_of_date_for_another_reason(self, ledger: SqlLedger, browse: Open) -> None:
        """The schedule has dispatched a job since, or somebody else has: then the form is not sent a second time."""
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        form = self.run_form(browser)
        ticked = ledger.insert(new_job(job_type="report"))
        self.change(ledger, "hourly", last_due_at=datetime.now(UTC), last_job_id=ticked.id)
        assert "said=dispatched" in browser.post("/schedules/run", data=form).headers["location"]
        grace = browse(Viewer(name="grace", actions=EVERYBODY.actions, organizations=None), application=APPLICATION)
        of_grace = self.run_form(grace)
        assert "said=dispatched" in self.send(browser, "run", "hourly").headers["location"]
        assert "said=dispatched" in grace.post("/schedules/run", data=of_grace).headers["location"]

    def test_a_job_with_the_unique_key_is_not_dispatched_again(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly", unique_key="k")
        ledger.insert(new_job(unique_key="k"))
        browser = browse(EVERYBODY, application=APPLICATION)
        assert self.send(browser, "run", "hourly").headers["location"] == "/schedules?said=unique"
        assert len(ledger.list_jobs()) == 1
        assert self.events(ledger, "run schedule") == []

    @pytest.mark.parametrize(
        ("application", "said"),
        [
            ("", "SPOKE_APP is not set"),
            ("tests.contract.no_such_app", "no_such_app"),
            ("tests.contract.broken_app", "ZeroDivisionError"),
        ],
    )
    def test_without_the_application_nothing_runs(
        self, ledger: SqlLedger, browse: Open, application: str, said: str
    ) -> None:
        self.add(ledger, "hourly")
        answer = self.send(browse(EVERYBODY, application=application), "run", "hourly")
        assert answer.status_code == 409
        assert said in answer.text
        assert ledger.list_jobs() == []

    def test_a_payload_that_is_not_valid_any_more(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly")
        definition = self.row(ledger, "hourly").definition | {"payload": {"day": ["secret-value"]}}
        self.change(ledger, "hourly", definition=definition)
        answer = self.send(browse(EVERYBODY, application=APPLICATION), "run", "hourly")
        assert answer.status_code == 409
        assert "day" in answer.text
        without = Viewer(name="ada", actions=frozenset({JobAction.SCHEDULE}), organizations=None)
        answer = self.send(browse(without, application=APPLICATION), "run", "hourly")
        assert answer.status_code == 409
        assert "InvalidPayload" in answer.text
        assert "secret-value" not in answer.text
        assert ledger.list_jobs() == []
