"""The dashboard's page *Failures*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest
from tests.contract.dashboard_scene import EVERYBODY, ONE, DashboardScene, Open
from tests.contract.ledger import new_job

from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import UNMEASURED, AttemptUsage, Failure
from spoke_jobs.web import JobAction, Viewer


class FailuresContract(DashboardScene):
    """Failed jobs, by cause and fingerprint."""

    def test_failures_are_grouped_with_a_sample_and_an_action(self, ledger: SqlLedger, browse: Open) -> None:
        for _ in range(2):
            newest = self.failed_at(ledger, "ValueError@one")
        self.failed_at(ledger, "KeyError@two")
        page = browse(EVERYBODY).get("/failures").text
        headings = re.findall(r"<h2[^>]*>(\d+) of the type report failed with JobError: (\S+),", page)
        assert headings == [("2", "ValueError@one"), ("1", "KeyError@two")]
        assert "raised at ValueError@one" in page
        assert f"Last output of job {newest.id}<" in page
        assert 'href="/bulk/retry?type=report&amp;cause=JobError&amp;fingerprint=ValueError%40one"' in page
        assert 'href="/jobs?state=failed&amp;type=report&amp;cause=JobError&amp;fingerprint=ValueError%40one"' in page
        assert page.count("In the last day: first <time") == page.count(", most recently <time") == 1
        assert page.count("In the last day: <time") == 1, "of a single failure"
        assert f"Message of job {newest.id}, the newest (those of the others may differ): " in page
        assert page.count("the newest (those") == page.count("Show the jobs with their messages") == 1

    def test_jobs_that_took_too_much_memory_have_the_peaks_of_their_attempts(
        self, ledger: SqlLedger, browse: Open
    ) -> None:
        job = ledger.insert(new_job())
        for mebibytes in (1_030, None, 1_036):
            usage = UNMEASURED if mebibytes is None else AttemptUsage(mebibytes * 2**20)
            claim = self.claimed(ledger)
            failure = Failure("OutOfMemory", "too much", for_good=True, usage=usage)
            ledger.fail(claim.token, failure, decide=True)
            ledger.retry(job.id, "ada")
        ledger.cancel(job.id)
        self.failed_at(ledger, "one")
        browser = browse(EVERYBODY)
        assert "Peak memory" not in browser.get("/failures").text, "none was killed for its memory"
        self.alter(ledger, job_request, job_request.c.id == job.id, cause="OutOfMemory")
        page = browser.get("/failures").text
        assert f"Peak memory of the newest attempts of job {job.id}, newest first: 1,036 MiB, 1,030 MiB." in page
        assert page.count("Peak memory") == 1

    def test_failures_within_a_period_are_shown(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        for hours in (0, 3, 30):
            job = self.failed_at(ledger, f"place{hours}")
            self.alter(ledger, job_request, job_request.c.id == job.id, finished_at=now - timedelta(hours=hours))
        browser = browse(EVERYBODY)
        for within, shown in (("1h", 1), ("1d", 2), ("7d", 3), ("30d", 3), ("", 2), ("9y", 2)):
            assert browser.get(f"/failures?within={within}").text.count("<h2") == shown, within

    def test_a_chart_shows_when_the_jobs_of_a_group_failed(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        for place, organization, minutes in (
            *(("often", 1, 1), ("often", 1, 90), ("often", 1, 90), ("often", 2, 1_000), ("often", 2, 1_000)),
            *(("twice", 1, 1), ("twice", 1, 70), ("once", 1, 1), ("often", 1, 2_000)),
        ):
            job = self.failed_at(ledger, place, organization_id=organization)
            self.alter(ledger, job_request, job_request.c.id == job.id, finished_at=now - timedelta(minutes=minutes))
        page = browse(ONE).get("/failures").text
        charts = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
        assert len(charts) == 2, "none of a single failure"
        assert "When they failed in the last day: The busiest hour began 2 h ago, with 2.<" in charts[0]
        assert 'role="img" aria-labelledby="chart-group-1"' in charts[0]
        bars = [re.findall(r'class="failed" x="(\d+)" y="\d+" width="3" height="(\d+)"', chart) for chart in charts]
        assert bars == [[("88", "40"), ("92", "20")], [("88", "40"), ("92", "40")]]
        assert "When they failed in the last day: In no hour more than one.<" in charts[1]
        everything = browse(EVERYBODY).get("/failures?within=7d").text
        assert "When they failed in the last 7 days: The busiest 6 hours began 6 h ago, with 3.<" in everything


class FailurePages(FailuresContract):
    """What depends on no database."""

    def test_the_message_of_the_newest_job_is_shown_without_output(self, ledger: SqlLedger, browse: Open) -> None:
        for organization, message in ((1, "mine: killed by SIGSEGV"), (2, "theirs: no PodTemplate 'x'"), (1, "")):
            job = ledger.insert(new_job(organization_id=organization))
            failure = Failure("ProcessDied", message, for_good=True, fingerprint=message[:4])
            ledger.fail(self.claimed(ledger).token, failure, decide=True)
        theirs = ledger.insert(new_job(job_type="theirs", organization_id=2))
        ledger.insert(new_job(organization_id=1, after=(theirs.id,)))
        ledger.cancel(theirs.id)
        page = browse(Viewer(name="ada", organizations=None, may_see_output=False)).get("/failures").text
        assert '<span class="message">mine: killed by SIGSEGV</span></p>' in page
        assert "theirs: no PodTemplate &#39;x&#39;" in page
        assert f"Message of job {job.id}:" not in page
        assert "<summary>" not in page, "there is no output"
        mine = browse(ONE).get("/failures").text
        assert "mine: killed by SIGSEGV" in mine
        assert "theirs" not in mine
        assert f"job {theirs.id} " not in mine

    def test_all_of_a_group_are_retried(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = [self.failed_at(ledger, place) for place in ("one", "one", "two")]
        browser = browse(EVERYBODY)
        found = re.search(r'href="(/bulk/retry[^"]+fingerprint=one)"', browser.get("/failures").text)
        assert found is not None
        preview = browser.get(found[1].replace("&amp;", "&"))
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', preview.text))
        fields["filters"] = fields["filters"].replace("&amp;", "&")
        assert "2 jobs were started again" in browser.post("/bulk/retry", data=fields).text
        states = [each.state if (each := ledger.get(job.id)) is not None else None for job in jobs]
        assert states == ["waiting", "waiting", "failed"]

    def test_a_retry_is_of_earlier_failures_too_and_its_link_does_not_deny_it(
        self, ledger: SqlLedger, browse: Open
    ) -> None:
        now = Queries(ledger.engine).now()
        earlier, _ = (self.failed_at(ledger, "one") for _ in range(2))
        self.alter(ledger, job_request, job_request.c.id == earlier.id, finished_at=now - timedelta(hours=3))
        browser = browse(EVERYBODY)
        page = browser.get("/failures?within=1h").text
        assert re.findall(r"<h2[^>]*>(\d+) ", page) == ["1"]
        found = re.search(r'href="(/bulk/retry[^"]+)">([^<]+)<', page)
        assert found is not None
        assert found[2] == "Retry all with this type and fingerprint (preview)"
        assert "<h1>Retry 2 jobs</h1>" in browser.get(found[1].replace("&amp;", "&")).text

    def test_links_of_a_group_without_a_fingerprint_leave_out_other_types(
        self, ledger: SqlLedger, browse: Open
    ) -> None:
        """Each process that is killed has the same cause and no fingerprint."""
        killed = Failure("Killed", "SIGSEGV", for_good=True)
        for job_type in ("report", "export"):
            ledger.insert(new_job(job_type=job_type))
            ledger.fail(self.claimed(ledger).token, killed, decide=True)
        browser = browse(EVERYBODY)
        page = browser.get("/failures").text
        links = re.findall(r'href="(/bulk/retry[^"]+)">([^<]+)<', page)
        both = ("/bulk/retry?cause=Killed", "Retry all with this cause (preview)")
        assert links == [both], "they are one group"
        assert "Pause the type" not in page
        long_ago = Queries(ledger.engine).now() - timedelta(days=3)
        self.alter(ledger, job_request, job_request.c.job_type == "export", finished_at=long_ago)
        page = browser.get("/failures").text
        (link,) = re.findall(r'href="(/bulk/retry[^"]+)">([^<]+)<', page)
        assert link == ("/bulk/retry?type=report&amp;cause=Killed", "Retry all with this type and cause (preview)")
        assert "<h1>Retry 1 job</h1>" in browser.get(unescape(link[0])).text, "also of those that failed before"
        assert 'href="/queues?scope=type%3Areport#pause">Pause the type<' in page
        may_not = replace(EVERYBODY, actions=frozenset({JobAction.RETRY}))
        for viewer in (ONE, may_not):
            assert "Pause the type" not in browse(viewer).get("/failures").text

    def test_cancelled_jobs_are_not_offered_for_a_retry(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.cancel(ledger.insert(new_job()).id)
        page = browse(EVERYBODY).get("/failures").text
        assert "failed with Cancelled" in page
        assert "/bulk/retry" not in page

    def test_counts_have_a_cap(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("ledger.reading.dashboard_queries", "web.view_parts"):
            monkeypatch.setattr(f"spoke_jobs.{module}.GROUPED", 2)
        monkeypatch.setattr("spoke_jobs.web.failure_pages.SHOWN", 1)
        for place in ("one", "two", "three"):
            self.failed_at(ledger, place)
        page = browse(EVERYBODY).get("/failures").text
        assert "the 2 that failed last were grouped" in page
        assert "The charts show only these: failures from before" in page
        assert "the 1 largest of 2 groups" in page
        assert "failed with JobError: one" not in page
