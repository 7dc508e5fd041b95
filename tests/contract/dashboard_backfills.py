"""Backfills on the dashboard's page *Schedules*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from tests.contract import scheduled_app
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, ONE, Open
from tests.contract.dashboard_schedules import APPLICATION, ScheduleScene

from spoke_jobs import Cron, Every
from spoke_jobs.errors import InvalidPayload
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.runners.ticker import checked_occurrence
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.web import JobAction, Viewer
from spoke_jobs.web.job_search import encoded

NIGHT = ("2026-03-01T00:00", "2026-03-01T07:00")
"""A period: its first and its last moment."""
LATER = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


class LockNotAvailable(Exception):
    """What a driver of PostgreSQL raises if another transaction holds a lock for too long."""

    sqlstate = "55P03"


class BackfillsContract(ScheduleScene):
    """The preview of a backfill, and what its confirmation dispatches."""

    def preview(self, browser: Browser, name: str, since: str, until: str, **more: str) -> Any:
        query = {"schedule": encoded(name), "from": since, "to": until, **more}
        return browser.get("/schedules/backfill", params=query)

    def form_in(self, page: str) -> dict[str, str]:
        """The fields of the form that confirms a backfill."""
        (form,) = re.findall(r'<form method="post" action="/schedules/backfill/dispatch">(.*?)</form>', page, re.S)
        return dict(re.findall(r'name="([^"]+)" value="([^"]*)"', unescape(form)))

    def confirm(self, browser: Browser, page: str) -> Any:
        return browser.post("/schedules/backfill/dispatch", data=self.form_in(page))

    def due_times(self, ledger: SqlLedger) -> list[datetime | None]:
        return [job.scheduled_for for job in reversed(ledger.list_jobs())]

    def test_backfill(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly", queue_name="reports")
        before = self.row(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        page = self.preview(browser, "hourly", *NIGHT)
        assert page.status_code == 200
        assert "<h1>Backfill hourly</h1>" in page.text
        assert "8 occurrences, of 10,000 at most" in page.text
        assert "<dt>With a job already</dt><dd>0</dd>" in page.text
        shown = re.findall(r"<li>.*?, (2026-\S+ \S+) UTC</li>", page.text)
        assert shown == [f"2026-03-01 {hour:02}:00:00" for hour in (0, 1, 2, 5, 6, 7)]
        assert "<li>… 2 more …</li>" in page.text
        assert ledger.list_jobs() == [], "a preview dispatches nothing"
        assert ">Backfill 8 occurrences</button>" in page.text
        answer = self.confirm(browser, page.text)
        assert answer.status_code == 303
        done = browser.get(answer.headers["location"]).text
        assert "You dispatched the jobs of the occurrences that you saw." in done
        assert "<dt>With a job already</dt><dd>8</dd>" in done
        assert "there is nothing to dispatch" in done
        assert self.due_times(ledger) == [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(8)]
        assert {(job.schedule, job.queue_name) for job in ledger.list_jobs()} == {("hourly", "reports")}
        assert self.row(ledger, "hourly").next_due_at == before.next_due_at, "its due times stay"
        detail = "hourly: 8 from 2026-03-01T00:00:00+00:00 to 2026-03-01T07:00:00+00:00"
        assert self.events(ledger, "backfill schedule") == [("ada", detail)]

    def test_a_backfill_dispatches_what_was_previewed(self, ledger: SqlLedger, browse: Open) -> None:
        """Not the occurrences whose jobs were there, and have been pruned since."""
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        self.confirm(browser, self.preview(browser, "hourly", "2026-03-01T02:00", "2026-03-01T03:00").text)
        page = self.preview(browser, "hourly", *NIGHT).text
        assert "<dt>With a job already</dt><dd>2</dd>" in page
        assert re.search(r"2026-03-01 02:00:00 UTC: has a job already", page)
        assert ">Backfill 6 occurrences</button>" in page
        with ledger.engine.begin() as connection:
            connection.execute(job_request.delete())
        self.confirm(browser, page)
        assert [when.hour for when in self.due_times(ledger) if when is not None] == [0, 1, 4, 5, 6, 7]

    def preview_in_parts(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Browser]:
        """Preview a backfill of which each transaction dispatches three jobs. Return the page, and who looks at it."""
        monkeypatch.setattr("spoke_jobs.ledger.schedules.backfills._PART", 3)
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        return self.preview(browser, "hourly", *NIGHT).text, browser

    def refuse(self, monkeypatch: pytest.MonkeyPatch, hour: int, error: Exception) -> None:
        """Raise an error for the job of this hour's due time."""

        def checked(schedule: Schedule, due: datetime, *args: Any, **given: Any) -> Any:
            if due.hour == hour:
                raise error
            return checked_occurrence(schedule, due, *args, **given)

        monkeypatch.setattr("spoke_jobs.web.schedule_pages.checked_occurrence", checked)

    def test_a_backfill_with_a_unique_key(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly", unique_key="k")
        browser = browse(EVERYBODY, application=APPLICATION)
        page = self.preview(browser, "hourly", *NIGHT).text
        assert "Its jobs have a unique key" in page
        answer = self.confirm(browser, page)
        assert "another job has the unique key" in browser.get(answer.headers["location"]).text
        assert len(ledger.list_jobs()) == 1


class BackfillPages(BackfillsContract):
    """What depends on no database."""

    def test_a_backfill_that_is_sent_twice_dispatches_each_occurrence_once(
        self, ledger: SqlLedger, browse: Open
    ) -> None:
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        page = self.preview(browser, "hourly", *NIGHT).text
        first, second = (self.confirm(browser, page) for _ in range(2))
        assert first.headers["location"].endswith("&said=backfilled")
        assert second.headers["location"].endswith("&said=repeated")
        assert "no other one was dispatched" in browser.get(second.headers["location"]).text
        assert len(ledger.list_jobs()) == 8
        assert len(self.events(ledger, "backfill schedule")) == 1

    def test_a_schedule_that_was_changed_since_the_preview(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        page = self.preview(browser, "hourly", *NIGHT).text
        form = self.form_in(page)
        for wrong in ({"chosen": "1ff"}, {"chosen": "x"}, {"chosen": ""}, {"times": ""}):
            assert browser.post("/schedules/backfill/dispatch", data=form | wrong).status_code == 409
        changed = scheduled_app.registry.make_schedule("hourly", "report", Every(hours=1, start=LATER), None, {})
        with ledger.engine.begin() as connection:
            schedule_rows.put(connection, "legacy", changed, "grace", replace=True)
        answer = self.confirm(browser, page)
        assert answer.status_code == 409
        assert "Preview again" in answer.text
        assert ledger.list_jobs() == []

    def test_a_backfill_has_a_bound_on_its_time(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.schedule_pages.SECONDS", -1.0)
        monkeypatch.setattr("spoke_jobs.ledger.schedules.backfills._PART", 3)
        self.add(ledger, "hourly")
        browser = browse(EVERYBODY, application=APPLICATION)
        path = self.confirm(browser, self.preview(browser, "hourly", *NIGHT).text).headers["location"]
        page = browser.get(path).text
        assert "until the time was over" in page
        assert ">Backfill 5 occurrences</button>" in page
        assert len(ledger.list_jobs()) == 3

    def test_a_backfill_that_ends_with_an_error_says_what_it_has_dispatched(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page, browser = self.preview_in_parts(ledger, browse, monkeypatch)
        self.refuse(monkeypatch, 4, InvalidPayload("the day is over"))
        answer = self.confirm(browser, page)
        assert answer.status_code == 409
        assert "3 jobs were dispatched, and no more: the day is over" in answer.text
        assert len(ledger.list_jobs()) == 3

    def test_a_backfill_that_another_transaction_stops_offers_to_go_on(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page, browser = self.preview_in_parts(ledger, browse, monkeypatch)
        error = OperationalError("INSERT", {}, LockNotAvailable())
        self.refuse(monkeypatch, 0, error)
        answer = self.confirm(browser, page)
        assert answer.status_code == 503
        assert ledger.list_jobs() == []
        self.refuse(monkeypatch, 4, error)
        after = browser.get(self.confirm(browser, page).headers["location"]).text
        assert "The page now says what is left" in after
        assert ">Backfill 5 occurrences</button>" in after

    def test_a_backfill_takes_times_in_the_schedules_zone(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "nightly", Cron("30 * * * *", timezone="America/New_York"))
        browser = browse(EVERYBODY, application=APPLICATION)
        page = browser.get("/schedules").text
        assert '<label for="from-1">From (America/New_York)</label>' in page
        assert 'aria-label="To (America/New_York): nightly"' in page
        spring = self.preview(browser, "nightly", "2026-03-08T01:00", "2026-03-08T04:00").text
        assert "2 occurrences" in spring, "clocks skip an hour"
        assert "Sun 2026-03-08 01:30:00 EST" in spring
        assert "Sun 2026-03-08 03:30:00 EDT" in spring
        autumn = self.preview(browser, "nightly", "2025-11-02T00:00", "2025-11-02T03:00").text
        assert "4 occurrences" in autumn, "clocks repeat an hour"
        assert re.findall(r"01:30:00 E.T", autumn) == ["01:30:00 EDT", "01:30:00 EST"]
        self.confirm(browser, autumn)
        assert self.due_times(ledger) == [datetime(2025, 11, 2, hour, 30, tzinfo=UTC) for hour in (4, 5, 6, 7)]

    def test_a_wrong_period_says_what_is_wrong_and_the_way_out(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "nightly", Cron("0 * * * *", timezone="America/New_York"))
        browser = browse(EVERYBODY, application=APPLICATION)
        for since, until, said in (
            ("2026-03-01T03:00", "2026-03-01T02:00", "From is 2026-03-01 03:00:00 EST, after To, 2026-03-01 02:00:00"),
            ("2026-03-01T03:00", "2999-03-01T02:00", "To is 2999-03-01 02:00:00 EST, in the future"),
            ("2026-03-01T03:00", "", "To is '', which is no time"),
            ("yesterday", "2026-03-01T03:00", "From is 'yesterday', which is no time"),
            ("2026-02-30T03:00", "2026-03-01T03:00", "From is '2026-02-30T03:00', which is no time"),
            ("0001-01-01T00:00", "2026-03-01T03:00", "which is no time from 1970 on"),
            ("2026-03-01T03:00", "9999-12-31T23:59", "To is '9999-12-31T23:59', which is no time"),
            (HOSTILE, "2026-03-01T03:00", "which is no time"),
            (
                "2026-03-08T02:30",
                "2026-03-08T05:00",
                (
                    "2026-03-08 02:30, which the clocks in America/New_York skip. "
                    "Give an earlier or a later time, for example 01:30 or 03:30."
                ),
            ),
            (
                "2025-11-02T00:00",
                "2025-11-02T01:30",
                (
                    "To is 2025-11-02 01:30, which the clocks in America/New_York "
                    "show twice. Give an earlier or a later time, or use `spoke-jobs schedules backfill` with "
                    "2025-11-02T01:30-04:00 or 2025-11-02T01:30-05:00."
                ),
            ),
            ("1990-01-01T00:00", "2026-03-01T03:00", "there are more than 10,000 occurrences. Give a shorter period"),
        ):
            answer = self.preview(browser, "nightly", since, until)
            assert answer.status_code == 400
            assert said in unescape(answer.text)
            assert "Back to the schedules" in answer.text
            self.assert_inert(answer.text)

    def test_a_period_in_which_nothing_was_due(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "hourly")
        page = self.preview(
            browse(EVERYBODY, application=APPLICATION), "hourly", "2026-03-01T00:01", "2026-03-01T00:59"
        )
        assert page.status_code == 200
        assert "Nothing was due in this period" in page.text
        assert '<button type="submit">Backfill' not in page.text

    def test_what_cannot_be_made_is_told_before_somebody_confirms_it(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "orphan")
        stale = Queries(ledger.engine).now() - timedelta(hours=1)
        self.change(ledger, "orphan", served_at=stale)
        browser = browse(EVERYBODY, application=APPLICATION)
        page = self.preview(browser, "orphan", *NIGHT)
        assert page.status_code == 200, "the dashboard has its code"
        assert "The schedule is orphaned" in page.text
        gone = self.row(ledger, "orphan").definition | {"jobType": "gone"}
        self.change(ledger, "orphan", definition=gone)
        answer = self.preview(browser, "orphan", *NIGHT)
        assert answer.status_code == 409
        assert "<h1>This can&#39;t be backfilled</h1>" in answer.text
        assert "no job is registered as &#39;gone&#39;" in answer.text
        assert "spoke-jobs schedules rm orphan" in answer.text
        wrong = self.row(ledger, "orphan").definition | {"jobType": "report", "payload": {"day": ["secret-value"]}}
        self.change(ledger, "orphan", definition=wrong)
        without = Viewer(name="ada", actions=frozenset({JobAction.SCHEDULE}), organizations=None)
        answer = self.preview(browse(without, application=APPLICATION), "orphan", *NIGHT)
        assert answer.status_code == 409
        assert "InvalidPayload" in answer.text
        assert "secret-value" not in answer.text
        assert self.preview(browse(EVERYBODY), "orphan", *NIGHT).status_code == 409, "there is no application"

    def test_who_may_backfill(self, ledger: SqlLedger, browse: Open) -> None:
        self.add(ledger, "theirs", organization_id=2)
        self.add(ledger, "nobodys")
        self.add(ledger, "mine", organization_id=1)
        browser = browse(ONE, application=APPLICATION)
        page = self.preview(browser, "mine", *NIGHT)
        form = self.form_in(page.text)
        for name in ("theirs", "nobodys", "nothing"):
            seen = self.preview(browser, name, *NIGHT)
            sent = browser.post("/schedules/backfill/dispatch", data=form | {"schedule": name})
            for answer in (seen, sent):
                assert answer.status_code == 404
                assert "There is no such schedule" in answer.text
        assert ledger.list_jobs() == []
        assert self.confirm(browser, page.text).status_code == 303
        assert self.events(ledger, "backfill schedule")[0][0] == "eve"
        assert {job.schedule for job in ledger.list_jobs()} == {"mine"}
        looking = browse(ONE.read_only(), application=APPLICATION)
        assert "Backfill" not in looking.get("/schedules").text
        assert self.preview(looking, "mine", *NIGHT).status_code == 403
        assert "Backfill" not in browse(EVERYBODY).get("/schedules").text, "the dashboard knows no application"
