"""Mutes on the dashboard's page *Failures*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, DashboardScene, Open

from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import Mute, NewMute
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, notice_mute


class MutesContract(DashboardScene):
    """What nobody gets notices about."""

    def mutes(self, ledger: SqlLedger) -> Sequence[Mute]:
        with ledger.engine.connect() as connection:
            return mute_rows.read_mutes(connection)

    def muted(self, ledger: SqlLedger, reason: str = "known", by: str = "grace", **about: str) -> int:
        """A mute that somebody adds with the command line."""
        new = NewMute(until=Queries(ledger.engine).now() + timedelta(hours=2), reason=reason, **about)
        with ledger.engine.begin() as connection:
            return mute_rows.add_mute(connection, new, by).id

    def mute(self, browser: Browser, number: int = 0, **changes: Any) -> httpx.Response:
        """Send the form of a group of the page, as a browser does."""
        form = self.forms(browser.get("/failures").text)[number]
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
        given = {"hours": "1", "reason": "fixed in release 43"}
        return browser.post("/mutes/add", data=fields | given | changes)

    def forms(self, page: str) -> list[str]:
        """The forms that mute."""
        return re.findall(r'<form method="post" action="/mutes/add".*?</form>', page, re.DOTALL)

    def groups(self, page: str) -> list[str]:
        """The texts of the groups, without elements."""
        sections = re.findall(r'<section aria-labelledby="failure-.*?</section>', page, re.DOTALL)
        return [" ".join(unescape(re.sub(r"<[^>]+>", " ", section)).split()) for section in sections]

    def others(self, page: str) -> str:
        """The text of the section *Other mutes*."""
        found = re.search(r'<section aria-labelledby="other-mutes">.*?</section>', page, re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).split()) if found is not None else ""

    def test_mute_and_end_the_mute(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_at(ledger, "ValueError@one")
        browser = browse(EVERYBODY)
        before = Queries(ledger.engine).now()
        answer = self.mute(browser, reason=" fixed in \n release 43 ")
        assert answer.headers["location"] == "/failures?within=1d&said=muted"
        (mute,) = self.mutes(ledger)
        assert (mute.job_type, mute.cause, mute.fingerprint) == ("report", "JobError", "ValueError@one")
        assert (mute.reason, mute.muted_by) == ("fixed in release 43", "ada")
        assert timedelta(hours=1) <= mute.until - before < timedelta(hours=2)
        page = browser.get(answer.headers["location"]).text
        assert "You muted these failures." in page
        (group,) = self.groups(page)
        assert f"Muted until {mute.until:%Y-%m-%d %H:%M:%S} UTC by ada: fixed in release 43 End the mute" in group
        assert self.forms(page) == [], "it is muted"
        assert self.others(page) == ""
        answer = self.post(browser, f"/mutes/{mute.id}/end", "/failures", within="7d")
        assert answer.headers["location"] == "/failures?within=7d&said=unmuted"
        assert self.mutes(ledger) == []
        page = browser.get(answer.headers["location"]).text
        assert "You ended the mute." in page
        assert "Muted until" not in page
        assert len(self.forms(page)) == 1
        ((actor, detail),) = self.events(ledger, "mute")
        assert actor == "ada"
        assert detail.startswith("type report, cause JobError, fingerprint ValueError@one until ")
        assert detail.endswith(": fixed in release 43")
        about = "type report, cause JobError, fingerprint ValueError@one"
        assert self.events(ledger, "unmute") == [("ada", about)]

    def test_a_group_that_is_muted_in_part(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_at(ledger, "one")
        self.failed_at(ledger, "one", job_type="export")
        self.muted(ledger, job_type="report", cause="JobError")
        browser = browse(EVERYBODY)
        page = browser.get("/failures").text
        (group,) = self.groups(page)
        assert "Muted in part (type report, cause JobError) until " in group
        assert len(self.forms(page)) == 1, "the rest can be muted, too"
        self.muted(ledger, job_type="export")
        page = browser.get("/failures").text
        assert self.groups(page)[0].count("Muted in part (") == 2
        assert self.forms(page) == [], "together they mute all"


class MutePages(MutesContract):
    """What depends on no database."""

    def test_a_mute_is_of_the_group_and_of_no_other_one(self, ledger: SqlLedger, browse: Open) -> None:
        """Of a group without a fingerprint, or with several types, a mute names less."""
        for job_type, place in (("report", "one"), ("export", "one"), ("report", "one"), ("report", "")):
            self.failed_at(ledger, place, job_type=job_type)
        browser = browse(EVERYBODY)
        assert len(self.forms(browser.get("/failures").text)) == 2
        self.mute(browser, 1)
        (mute,) = self.mutes(ledger)
        assert (mute.job_type, mute.cause, mute.fingerprint) == ("report", "JobError", None)
        self.post(browser, f"/mutes/{mute.id}/end", "/failures")
        self.mute(browser, 0)
        (mute,) = self.mutes(ledger)
        assert (mute.job_type, mute.cause, mute.fingerprint) == (None, "JobError", "one")
        large, small = self.groups(browser.get("/failures").text)
        assert "Muted until" in large
        assert "Muted" not in small

    def test_a_form_that_is_sent_twice_mutes_once(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_at(ledger, "one")
        browser = browse(EVERYBODY)
        form = self.forms(browser.get("/failures").text)[0]
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
        for hours in ("1", "1", "24"):
            assert browser.post("/mutes/add", data=fields | {"hours": hours, "reason": "r"}).status_code == 303
        assert len(self.mutes(ledger)) == 2, "a longer mute is another one"

    def test_there_are_no_notices_about_cancelled_jobs_to_mute(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed_at(ledger, "one")
        browser = browse(EVERYBODY)
        for cause in ("Cancelled", ""):
            self.alter(ledger, job_request, job_request.c.id == job.id, cause=cause)
            page = browser.get("/failures").text
            assert len(self.groups(page)) == 1
            assert self.forms(page) == []

    def test_a_mute_that_does_not_exist(self, ledger: SqlLedger, browse: Open) -> None:
        self.muted(ledger, cause="JobError")
        browser = browse(EVERYBODY)
        for mute_id in ("99", "0", "x", "99999999999999999999"):
            answer = self.post(browser, f"/mutes/{mute_id}/end", "/failures")
            assert "There was no such mute" in browser.get(answer.headers["location"]).text
        assert len(self.mutes(ledger)) == 1

    def test_mutes_of_no_group_are_listed_below(self, ledger: SqlLedger, browse: Open) -> None:
        browser = browse(EVERYBODY)
        assert "Other mutes" not in browser.get("/failures").text
        self.failed_at(ledger, "one")
        self.muted(ledger, cause="JobError", fingerprint="one")
        other = self.muted(ledger, "a network that is slow", cause="Timeout")
        page = browser.get("/failures").text
        others = self.others(page)
        assert re.search(
            r"cause Timeout: muted until \S+ \S+ UTC by grace: a network that is slow End the mute", others
        )
        assert "JobError" not in others
        assert f'action="/mutes/{other}/end"' in page[page.index("Other mutes") :]
        self.alter(ledger, job_request, finished_at=Queries(ledger.engine).now() - timedelta(hours=3))
        assert "JobError" in self.others(browser.get("/failures?within=1h").text), "its failures are older"

    def test_a_mute_that_is_over_is_not_shown(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_at(ledger, "one")
        for cause in ("JobError", "Timeout"):
            self.muted(ledger, cause=cause)
        over = Queries(ledger.engine).now() - timedelta(seconds=1)
        self.alter(ledger, notice_mute, until=over)
        browser = browse(EVERYBODY)
        page = browser.get("/failures").text
        assert "Muted" not in page
        assert self.others(page) == ""
        assert len(self.forms(page)) == 1

    def test_a_bounded_number_of_mutes_is_shown(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.failure_pages.MUTES_SHOWN", 2)
        for cause in ("A", "B", "C"):
            self.muted(ledger, cause=cause)
        page = browse(EVERYBODY).get("/failures").text
        assert "Only the newest 2 mutes are shown" in page
        others = self.others(page)
        assert [cause for cause in "ABC" if f"cause {cause}:" in others] == ["B", "C"]
