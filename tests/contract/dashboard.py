"""The dashboard in a browser, with the same answers on each database. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text, update
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import (
    EVERYBODY,
    HOST,
    HOSTILE,
    ONE,
    ROUTES,
    TYPES,
    DashboardScene,
    Open,
    token_in,
)
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.listing_plan import Place
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import (
    ANY_JOB,
    UNMEASURED,
    AttemptUsage,
    Failure,
    JobFilter,
    JobRequest,
    JobState,
    Progress,
)
from spoke_jobs.web import app
from spoke_jobs.web.pages import PER_PAGE

FILTERS = (
    ANY_JOB,
    *(JobFilter(states=(state,)) for state in JobState),
    JobFilter(states=()),
    *(JobFilter(states=(state,), job_type="export") for state in JobState),
    JobFilter(job_type="export"),
    JobFilter(job_type="ex*"),
    JobFilter(job_type="x" * 300),
    JobFilter(queue_name="q1"),
    JobFilter(queue_name="q*", job_type="export"),
    JobFilter(cause="JobError"),
    JobFilter(cause="Timeout"),
    JobFilter(unique_key="l"),
    JobFilter(batch_id=1),
    *(JobFilter(organization_id=number) for number in (1, 2, 3)),
    JobFilter(organizations=frozenset({1}), states=(JobState.WAITING, JobState.SUCCEEDED)),
    JobFilter(organizations=frozenset({1, 2, 3}), job_type="export"),
    JobFilter(organizations=frozenset(range(99)), job_type="export"),
    JobFilter(organizations=frozenset({1}), organization_id=2),
    JobFilter(organizations=frozenset()),
    JobFilter(first_id=5, last_id=20),
    JobFilter(first_id=5, last_id=20, states=(JobState.WAITING, JobState.FAILED)),
)
"""Of each way to find jobs, some."""


class DashboardContract(DashboardScene):
    """What a browser gets."""

    # What it shows

    def test_without_a_job_it_says_what_to_do(self, browse: Open) -> None:
        browser = browse(EVERYBODY)
        assert "spoke-jobs dispatch" in browser.get("/").text
        assert "spoke-jobs worker" in browser.get("/").text
        assert "spoke-jobs dispatch" in browser.get("/jobs").text
        assert "No job matches" in browser.get("/jobs?type=nothing").text
        assert browser.get("/jobs/1").status_code == 404

    def test_the_overview_counts_and_says_why(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(queue_name="q", locks_queue=True))
        holder = self.claimed(ledger).job
        behind = ledger.insert(new_job(queue_name="q", locks_queue=True))
        self.failed(ledger, job_type="export")
        page = browse(EVERYBODY).get("/").text
        for state, number in (("waiting", 1), ("running", 1), ("failed", 1), ("succeeded", 0), ("blocked", 0)):
            assert f'href="/jobs?state={state}"><span class="number">{number}</span>' in page
        assert f"waits for job {holder.id} (report)" in page
        assert f"spoke-jobs why {holder.id}" in page
        assert "of the type export failed with JobError" in page
        assert f'<a href="/jobs/{behind.id}">{behind.id}</a> report, due' in page
        assert "host:7" in page

    def test_pods_are_listed_while_their_attempts_run(self, ledger: SqlLedger, browse: Open) -> None:
        for runner, worker, ends in (
            *(("legacy", "worker-of-legacy", True), ("kubernetes", "pod-that-ended", True)),
            *(("kubernetes", "pod-that-runs", False), ("kubernetes-worker", "worker-of-the-lane", True)),
        ):
            job = ledger.insert(new_job(runner=runner))
            claim = claim_one(ledger, runner, TYPES, worker, LEASE)
            assert claim is not None
            if ends:
                ledger.succeed(None, claim.token, None)
        with ledger.engine.begin() as connection:
            moved = update(job_request).where(job_request.c.id == job.id).values(runner="kubernetes")
            connection.execute(moved)  # after its attempt in a worker
        page = browse(EVERYBODY).get("/").text
        listed = re.findall(r'<th scope="row">([a-z-]+)</th><td>(\d)</td>', page)
        assert sorted(listed) == [("pod-that-runs", "1"), ("worker-of-legacy", "0"), ("worker-of-the-lane", "0")]
        assert "No worker is known" not in page

    def test_since_when_jobs_are_tried_again(self, ledger: SqlLedger, browse: Open) -> None:
        for organization, hours in ((2, 5), (1, 3), (1, 0)):
            job = ledger.insert(new_job(organization_id=organization))
            claim = self.claimed(ledger)
            ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
            with ledger.engine.begin() as connection:
                times = {"started_at": clock_after(-3_600 * hours), "run_after": clock_after(600)}
                connection.execute(update(job_request).where(job_request.c.id == job.id).values(times))
        ledger.insert(new_job(run_after=Queries(ledger.engine).now() + timedelta(hours=1)))
        page = browse(EVERYBODY).get("/").text
        assert re.search(r"</strong></a> failed with JobError and are tried again, [^<]+ \(the first attempt of the "
                         r"oldest began 5 h ago\)</p>", page)  # fmt: skip
        assert page.count("the first attempt of the oldest began") == 1
        assert "the first attempt of the oldest began 3 h ago" in browse(ONE).get("/").text

    def test_counts_have_a_cap(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.CAP", 2)
        for module in ("web.pages", "web.page_views", "web.view_parts"):
            monkeypatch.setattr(f"spoke_jobs.{module}.GROUPED", 2)
        for _ in range(3):
            self.failed(ledger)
        ledger.insert_many([new_job() for _ in range(4)])
        page = browse(EVERYBODY).get("/").text
        assert '<span class="number">2+</span> waiting' in page
        assert '<span class="number">2+</span> failed' in page
        assert "Of the waiting and the blocked jobs, 2 of each were grouped; there may be more." in page
        assert "the 2 that failed last" in page
        assert "<strong>2</strong></a> of the type report failed" in page
        assert "<strong>2</strong></a> are due" in page or "<strong>2</strong></a> have just" in page

    def test_the_largest_groups_are_shown(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.page_views.GROUPS_SHOWN", 1)
        for place, number in (("one", 1), ("two", 2)):
            for _ in range(number):
                self.failed_at(ledger, place)
        browser = browse(EVERYBODY)
        page = browser.get("/").text
        assert "These are the 1 largest groups of failed jobs; there are more." in page
        assert "largest groups of waiting jobs" not in page
        assert ("JobError: two" in page, "JobError: one" in page) == (True, False)
        ledger.insert(new_job())
        assert "largest groups of waiting jobs" not in browser.get("/").text
        ledger.insert(new_job(run_after=Queries(ledger.engine).now() + timedelta(hours=1)))
        assert "These are the 1 largest groups of waiting jobs; there are more." in browser.get("/").text

    def test_the_types_and_organizations_with_the_most_due_jobs(self, ledger: SqlLedger, browse: Open) -> None:
        assert "Due jobs, by type" not in browse(EVERYBODY).get("/").text
        now = Queries(ledger.engine).now()
        ledger.insert_many([new_job(job_type="export", organization_id=number) for number in (7, 7, 7, 2, 1, None)])
        ledger.insert_many([new_job(job_type="report", organization_id=1) for _ in range(2)])
        ledger.insert_many([new_job(job_type="later", organization_id=9, run_after=now + timedelta(hours=1))] * 9)
        for number in range(6):
            ledger.insert(new_job(job_type=f"type{number}", organization_id=100 + number))
        page = browse(EVERYBODY).get("/").text
        assert "Jobs that are due and wait: 14." in page
        share = r'<li><a href="/jobs\?state=waiting&amp;(\w+=\w+)">(\w+)</a>: (\d+)</li>'
        assert re.findall(share, page) == [
            *(("type=export", "export", "6"), ("type=report", "report", "2")),
            *((f"type=type{number}", f"type{number}", "1") for number in range(3)),
            *(("organization=1", "1", "3"), ("organization=7", "7", "3"), ("organization=2", "2", "1")),
            *(("organization=100", "100", "1"), ("organization=101", "101", "1")),
        ]
        self.assert_for_everybody(page)
        mine = browse(ONE).get("/").text
        assert "Jobs that are due and wait: 3." in mine
        found = [("type=report", "report", "2"), ("type=export", "export", "1"), ("organization=1", "1", "3")]
        assert re.findall(share, mine) == found

    def test_due_jobs_are_counted_among_a_bounded_number(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger.insert_many([new_job() for _ in range(4)])
        for most, number, note in ((5, "4", False), (3, "3+", True)):
            for module in ("ledger.reading.due_counts", "web.page_views"):
                monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", most)
            page = browse(EVERYBODY).get("/").text
            assert f"Jobs that are due and wait: {number}." in page
            assert ("among the first 3 waiting jobs; there may be more" in page) is note

    def test_each_runner_has_a_share_of_the_waiting_jobs_that_are_read(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.due_counts.EXAMINED", 4)
        monkeypatch.setattr("spoke_jobs.web.pages.GROUPED", 4)
        for runner, number in (("a", 3), ("b", 1)):
            ledger.insert_many([new_job(job_type=f"of_{runner}", runner=runner) for _ in range(number)])
        page = browse(EVERYBODY).get("/").text
        assert re.findall(r">(of_.)</a>: (\d)</li>", page) == [("of_a", "2"), ("of_b", "1")]
        assert "Jobs that are due and wait: 3+." in page
        assert re.findall(r"<strong>(\d)</strong></a> (?:has|have) just become due", page) == ["2", "1"]
        assert "of each were grouped; there may be more" in page

    def test_the_first_waiting_jobs_are_those_that_are_claimed_first(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.due_counts.EXAMINED", 2)
        late, first, second = (ledger.insert(new_job(job_type=f"t{n}", priority=n)) for n in (0, 5, 2))
        page = browse(EVERYBODY).get("/").text
        assert f'<li><a href="/jobs/{first.id}">' in page
        assert f'<li><a href="/jobs/{second.id}">' in page
        assert f'<li><a href="/jobs/{late.id}">' not in page
        assert re.findall(r">(t\d)</a>: 1</li>", page) == ["t2", "t5"]

    def test_ended_jobs_of_an_organization_are_counted_among_its_own(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(organization_id=1))
        ledger.succeed(None, self.claimed(ledger).token, None)
        for organization in (1, 1, 2, None):
            self.failed(ledger, organization_id=organization)
        page = browse(ONE).get("/").text
        assert '<span class="number">1</span> succeeded' in page
        assert '<span class="number">2</span> failed' in page
        assert '<span class="number">4</span> failed' in browse(EVERYBODY).get("/").text

    def test_the_last_hour_by_minute(self, ledger: SqlLedger, browse: Open) -> None:
        for organization, seconds in ((1, 125), (2, 125), (1, 3_700)):
            succeeded = ledger.insert(new_job(organization_id=organization))
            ledger.succeed(None, self.claimed(ledger).token, None)
            self.ended(ledger, succeeded, seconds)
        self.ended(ledger, self.failed(ledger, organization_id=1), 305)
        self.failed(ledger, organization_id=2)
        page = browse(EVERYBODY).get("/").text
        assert "4 jobs ended in the last hour. The busiest minute was 2 min ago, with 2." in page
        assert "2 jobs failed for good in the last hour.<" in page
        bars = re.findall(r'<rect class="(\w+)" x="(\d+)" y="(\d+)" width="3" height="(\d+)">', page)
        assert bars == [
            *(("ended", "216", "20", "20"), ("ended", "228", "0", "40"), ("ended", "236", "20", "20")),
            *(("failed", "216", "0", "40"), ("failed", "236", "0", "40")),
        ]
        page = browse(ONE).get("/").text
        assert "2 jobs ended in the last hour.<" in page
        assert "1 job failed for good in the last hour.<" in page
        assert page.count("<rect ") == 3

    def ended(self, ledger: SqlLedger, job: JobRequest, seconds_ago: float) -> None:
        """Let a job have ended some time ago."""
        then = clock_after(-seconds_ago)
        with ledger.engine.begin() as connection:
            for ended, column in ((job_request, job_request.c.id), (job_attempt, job_attempt.c.job_id)):
                connection.execute(update(ended).where(column == job.id).values(finished_at=then))

    def test_the_last_hour_is_counted_among_the_newest_attempts(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(3):
            ledger.insert(new_job(organization_id=1))
            ledger.succeed(None, self.claimed(ledger).token, None)
        for most, number, note in ((4, "3 jobs", False), (2, "2 jobs", True)):
            for module in ("ledger.reading.ended_counts", "web.page_views"):
                monkeypatch.setattr(f"spoke_jobs.{module}.NEWEST_ATTEMPTS", most)
            page = browse(EVERYBODY).get("/").text
            assert f"{number} ended in the last hour" in page
            assert ("among the newest 2 attempts" in page) is note

    def test_a_viewer_of_an_organization_is_told_that_the_charts_may_lack_jobs(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says so always, and does not tell how many attempts others make."""
        for module in ("ledger.reading.ended_counts", "web.page_views"):
            monkeypatch.setattr(f"spoke_jobs.{module}.NEWEST_ATTEMPTS", 2)
        note = "among the newest 2 attempts of all organizations: earlier jobs of yours may be missing"
        empty = browse(ONE).get("/").text
        assert note in empty
        for organization in (1, 2, 2):
            ledger.insert(new_job(organization_id=organization))
            ledger.succeed(None, self.claimed(ledger).token, None)
        page = browse(ONE).get("/").text
        assert note in page
        assert "No job was found that ended in the last hour." in page
        assert "No job ended" not in page

    def test_cancelled_jobs_ended_and_did_not_fail_for_good(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.failed(ledger)
        for _ in range(2):
            ledger.cancel(ledger.insert(new_job()).id)
        browser = browse(EVERYBODY)
        page = browser.get("/").text
        assert "3 jobs ended in the last hour." in page
        assert "1 job failed for good in the last hour." in page
        note = "The charts count among the newest"
        assert note not in page
        monkeypatch.setattr("spoke_jobs.ledger.reading.ended_counts.FAILED_COUNTED", 3)
        assert note in browser.get("/").text, "the cancelled ones are among those that were counted"

    def test_jobs_are_filtered_and_paged_by_key(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = ledger.insert_many([new_job(job_type=f"type_{number % 2}") for number in range(2 * PER_PAGE + 4)])
        browser = browse(EVERYBODY)
        pages = self.paged(browser, "/jobs?type=type_1&state=waiting")
        seen = [job_id for page in pages for job_id in self.listed(page)]
        assert seen == [job.id for job in reversed(jobs) if job.job_type == "type_1"]
        assert "offset" not in "".join(pages)
        newer = re.search(r'<a href="([^"]+)" rel="prev">', pages[-1])
        assert newer is not None
        first = browser.get(newer[1].replace("&amp;", "&")).text
        assert self.listed(first) == seen[:PER_PAGE]

    def listed(self, page: str) -> list[int]:
        """The ids of the jobs in a list."""
        return [*map(int, re.findall(r'<th scope="row"><a href="/jobs/(\d+)"', page))]

    def paged(self, browser: Browser, path: str, rel: str = "next") -> list[str]:
        """The page, and those to which its links lead, one after the other."""
        pages = []
        while path:
            pages.append(browser.get(path).text)
            link = re.search(rf'<a href="([^"]+)" rel="{rel}">', pages[-1])
            path = link[1].replace("&amp;", "&") if link is not None else ""
        return pages

    def test_a_page_compares_so_many_jobs_and_offers_to_go_on(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.LOOKED_THROUGH", PER_PAGE + 10)
        old = ledger.insert(new_job(job_type="mail.old"))
        jobs = ledger.insert_many([new_job() for _ in range(2 * PER_PAGE + 30)])
        browser = browse(EVERYBODY)
        pages = self.paged(browser, "/jobs?type=mail.*")
        border = jobs[-(PER_PAGE + 10)].id
        assert f"compared with 60 jobs, down to job {border}. Older jobs may match, too." in pages[0]
        assert "None of these jobs matches the filters." in pages[0]
        assert f'href="/jobs?type=mail.%2A&amp;before={border}" rel="next"' in pages[0]
        assert [self.listed(page) for page in pages] == [[], [], [old.id]]
        assert "may match, too" not in pages[-1]
        upwards = self.paged(browser, f"/jobs?type=mail.*&after={old.id - 1}", "prev")
        assert [self.listed(page) for page in upwards] == [[old.id], [], []]
        assert f"compared with 60 jobs, up to job {old.id + 59}. Newer jobs may match, too." in upwards[0]
        assert "No job matches these filters" in upwards[-1]
        for query in ("", "?state=failed", "?type=mail.old", "?state=waiting&type=mail.*", "?key=k"):
            assert "may match, too" not in browser.get(f"/jobs{query}").text, "an index has all that may match"

    def test_no_job_is_lost_or_doubled_between_pages(self, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whichever indexes have the jobs, and wherever the bound on their number ends a page."""
        self.some_of_all_states(ledger)
        jobs = ledger.list_jobs(99)
        queries = DashboardQueries(ledger.engine)
        for most in (9, 99):
            for name in ("LOOKED_THROUGH", "SCATTERED"):
                monkeypatch.setattr(f"spoke_jobs.ledger.reading.job_listing.{name}", most)
            for which in FILTERS:
                expected = [job.id for job in jobs if which.fits(job)]
                assert self.walked(queries, which) == expected, (which, most)
                assert self.walked(queries, which, upwards=True) == expected[::-1], (which, most)

    def some_of_all_states(self, ledger: SqlLedger) -> None:
        """40 jobs, of each state, of two types, three organizations, two runners and three priorities."""
        mine = {"job_type": "export", "organization_id": 1}
        jobs = [ledger.insert(new_job(**mine, unique_key=key)) for key in ("k", "l", "m")]
        for job in jobs[:2]:
            assert self.claimed(ledger).job.id == job.id
        ledger.insert(new_job(**mine, after=(jobs[2].id,)))
        others = ledger.insert_many(
            [
                new_job(
                    job_type=job_type,
                    organization_id=organization,
                    queue_name=f"q{number // 3}",
                    priority=number % 3,
                    runner="legacy" if number < 5 else "kubernetes",
                )
                for number in range(9)
                for organization, job_type in ((1, "report"), (2, "export"), (None, "report"), (1, "export"))
            ]
        )
        for state, cause, first in ((JobState.SUCCEEDED, "", 0), (JobState.FAILED, "JobError", 3)):
            ended = {"state": state, "cause": cause, "finished_at": clock_after(0)}
            with ledger.engine.begin() as connection:
                ids = [job.id for number, job in enumerate(others) if number % 5 in (first, first + 1)]
                connection.execute(update(job_request).where(job_request.c.id.in_(ids)).values(ended))

    def walked(self, queries: DashboardQueries, which: JobFilter, *, upwards: bool = False) -> list[int]:
        """The ids of all jobs of the filter, page by page."""
        place, seen = Place(after=0) if upwards else Place(), list[int]()
        while True:
            page = queries.page(which, 8, place)
            ids = [job.id for job in page.jobs]
            assert ids == sorted(ids, reverse=True)
            seen += ids[::-1] if upwards else ids
            border = page.newer if upwards else page.older
            if border is None:
                return seen
            assert border != (place.after if upwards else place.before), "it goes on"
            place = Place(after=border) if upwards else Place(before=border)

    def test_a_viewer_of_an_organization_is_not_told_to_which_job_of_others_a_page_came(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.SCATTERED", PER_PAGE + 10)
        ledger.insert(new_job(job_type="mail.old", organization_id=1))
        for organization in (1, 2):
            ledger.insert_many([new_job(organization_id=organization) for _ in range(PER_PAGE + 30)])
        pages = self.paged(browse(ONE), "/jobs?type=mail.*")
        assert "compared with 60 jobs. Older jobs may match, too." in pages[0]
        assert [self.listed(page) for page in pages] == [[], [1]]

    def test_a_job_that_has_ended_is_listed_with_its_end(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed(ledger)
        ledger.insert(new_job())
        page = browse(EVERYBODY).get("/jobs").text
        heading = page.split('<th scope="col">').index("Ended</th>") - 1
        rows = re.findall(r"<tr>\s*<th.*?</tr>", page, re.S)
        ended = [re.findall(r"<t[hd].*?</t[hd]>", row, re.S)[heading] for row in rows]
        assert ended[-2] == "<td></td>"
        assert " ago</time>" in ended[-1]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("state=failed", ["export"]),
            ("cause=JobError", ["export"]),
            ("type=re*", ["report"]),
            ("queue=q", ["report"]),
            ("organization=9", ["report"]),
            ("key=k", ["report"]),
            ("key=other", []),
        ],
    )
    def test_each_filter(self, ledger: SqlLedger, browse: Open, query: str, found: list[str]) -> None:
        self.failed(ledger, job_type="export", organization_id=3)
        ledger.insert(new_job(queue_name="q", organization_id=9, unique_key="k"))
        page = browse(EVERYBODY).get(f"/jobs?{query}").text
        assert re.findall(r'</th>\s*<td>(\w+)</td>\s*<td><span class="state', page) == found

    def test_an_id_leads_to_its_job(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        assert browse(EVERYBODY).get(f"/jobs?id={job.id}").headers["location"] == f"/jobs/{job.id}"

    def test_a_job_with_its_attempts_and_advice(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        page = browse(EVERYBODY).get(f"/jobs/{job.id}").text
        assert "it failed with JobError" in page
        assert "last line" in page
        assert f"spoke-jobs retry {job.id}" in page, "the advice"
        assert f"spoke-jobs logs {job.id}" in page
        assert "host:7" in page

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

    def test_progress(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        claim = self.claimed(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(40, "row 400"))
        page = browse(EVERYBODY).get(f"/jobs/{claim.job.id}").text
        assert '<progress id="progress" max="100" value="40">' in page
        assert "row 400" in page

    def test_payload_and_result_need_permission(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(payload='{"secret":"in the payload"}', organization_id=1))
        claim = self.claimed(ledger)
        ledger.succeed(None, claim.token, {"secret": "in the result"})
        path = f"/jobs/{claim.job.id}"
        allowed, refused = browse(EVERYBODY).get(path).text, browse(ONE).get(path).text
        assert "in the payload" in allowed
        assert "in the result" in allowed
        assert "succeeded" in refused
        assert "in the payload" not in refused
        assert "in the result" not in refused

    def test_what_a_job_depends_on(self, ledger: SqlLedger, browse: Open) -> None:
        first = ledger.insert(new_job(job_type="first", organization_id=1))
        then = ledger.insert(new_job(organization_id=1, after=(first.id,)))
        page = browse(ONE).get(f"/jobs/{then.id}").text
        assert f'<a href="/jobs/{first.id}">{first.id}</a> first: waiting' in page

    # What it does

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

    # Who may see and do what

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_nobody_sees_or_does_anything_without_a_session(
        self, ledger: SqlLedger, browse: Open, method: str, path: str
    ) -> None:
        job = ledger.insert(new_job(job_type="hidden"))
        browser = browse(None)
        answer = browser.request(method, path.format(job_id=job.id, batch_id=1, task_id=1, mute_id=1))
        assert answer.status_code == 401
        assert "hidden" not in answer.text
        assert ledger.get(job.id) == job

    def test_the_routes_are_those_that_are_tested(self, ledger_url: str) -> None:
        dashboard = app(authorize=lambda _request: None, hosts=[HOST], database=ledger_url)
        open_to_all = {
            ("GET", "/sign-in"),
            ("POST", "/sign-in"),
            ("POST", "/sign-out"),
            ("GET", "/sign-in/start"),
            ("GET", "/sign-in/callback"),
            ("GET", "/signed-out"),
            ("GET", "/static/{name}"),
            ("GET", "/healthz"),
        }
        routes = {
            (method, route.path)
            for route in dashboard._app.routes  # type: ignore[attr-defined]
            for method in route.methods - {"HEAD"}
        }
        assert routes == {*ROUTES} | open_to_all
        dashboard.close()

    def test_jobs_of_other_organizations_do_not_exist(self, ledger: SqlLedger, browse: Open) -> None:
        """Neither as rows, nor in counts, completions, sentences, links or addresses."""
        ledger.insert(new_job(job_type="theirs", organization_id=2, queue_name="their_queue", locks_queue=True))
        theirs = self.claimed(ledger).job
        for organization in (2, None):
            ledger.insert(new_job(job_type="theirs", organization_id=organization, queue_name="their_queue"))
        mine = ledger.insert(new_job(job_type="mine", organization_id=1, queue_name="their_queue", locks_queue=True))
        after = ledger.insert(new_job(job_type="after", organization_id=1, after=(theirs.id,)))
        browser = browse(ONE)
        overview, listed = browser.get("/").text, browser.get("/jobs").text
        assert '<span class="number">1</span> waiting' in overview
        assert '<span class="number">0</span> running' in overview
        assert "host:7" not in overview
        assert "mine" in listed
        pages = [overview, listed, *(browser.get(f"/jobs/{job.id}").text for job in (mine, after))]
        for page in pages:
            assert "theirs" not in page
            assert f"/jobs/{theirs.id}" not in page
            assert not re.search(rf"\bjob {theirs.id}\b|why {theirs.id}\b", page)
        assert "Another job holds the lock" in pages[2]
        for path in (f"/jobs/{theirs.id}", "/jobs?type=theirs", "/jobs?organization=2"):
            answer = browser.get(path)
            assert answer.text.replace(path.partition("=")[2], "").count("theirs") == 0
        assert browser.get(f"/jobs/{theirs.id}").status_code == 404
        for action in ("cancel", "retry"):
            answer = self.post(browser, f"/jobs/{theirs.id}/{action}", f"/jobs/{mine.id}")
            assert answer.status_code == 404
        found = ledger.get(theirs.id)
        assert found is not None
        assert found.cancel_requested_at is None

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

    def test_a_viewer_without_actions_only_looks(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        path, secret = f"/jobs/{job.id}", "s" * 40
        acting, looking = browse(EVERYBODY, secret=secret), browse(EVERYBODY.read_only(), secret=secret)
        token = token_in(acting.get(path))
        looking.cookies.update(acting.cookies)
        page = looking.get(path)
        assert "may only look" in page.text
        assert "<form" not in page.text
        answer = looking.post(f"{path}/cancel", data={"token": token})
        assert answer.status_code == 403
        assert "You may not cancel" in answer.text, "the form itself is valid"
        assert ledger.get(job.id) == job

    @pytest.mark.parametrize("action", ["cancel", "retry"])
    def test_nothing_is_done_over_get(self, ledger: SqlLedger, browse: Open, action: str) -> None:
        job = self.failed(ledger) if action == "retry" else ledger.insert(new_job())
        before = ledger.get(job.id)
        browser = browse(EVERYBODY)
        token = token_in(browser.get(f"/jobs/{job.id}"))
        answer = browser.get(f"/jobs/{job.id}/{action}?token={token}")
        assert answer.status_code == 405
        assert ledger.get(job.id) == before

    def test_a_form_of_another_session_or_viewer_does_nothing(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(organization_id=1))
        path = f"/jobs/{job.id}"
        first, second = browse(EVERYBODY), browse(EVERYBODY)
        first.get(path)
        theirs = token_in(second.get(path))
        for token in ("", "0" * 64, theirs, token_in(first.get(path))[:-1], "é"):
            answer = first.post(f"{path}/cancel", data={"token": token})
            assert answer.status_code == 403
            assert "out of date" in answer.text
        good = token_in(first.get(path))
        first.cookies.clear()
        assert first.post(f"{path}/cancel", data={"token": good}).status_code == 403, "the session is gone"
        assert ledger.get(job.id) == job

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

    def test_hostile_texts_are_inert(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(job_type="hostile", queue_name=HOSTILE, unique_key=HOSTILE))
        claim = self.claimed(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(1, HOSTILE))
        browser = browse(EVERYBODY)
        pages = [browser.get(path).text for path in ("/", "/jobs", f"/jobs/{job.id}")]
        failure = Failure("JobError", HOSTILE, "ValueError", HOSTILE * 3, for_good=True, fingerprint=HOSTILE)
        ledger.fail(claim.token, failure, decide=True)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).values(job_type=HOSTILE, cause=HOSTILE))
            connection.execute(text("UPDATE job_attempt SET worker = :text"), {"text": HOSTILE})
        ledger.insert(new_job(job_type=HOSTILE, payload=f'"{HOSTILE[:20]}"'))
        pages += [browser.get(path).text for path in ("/", "/jobs", f"/jobs/{job.id}", f"/jobs/{job.id + 1}")]
        pages.append(browser.get("/jobs", params={"type": HOSTILE, "queue": HOSTILE, "id": HOSTILE}).text)
        assert sum("&lt;script&gt;" in page for page in pages) == len(pages) - 1, "the first overview has none"
        for page in pages:
            self.assert_inert(page)

    def test_pages_are_made_for_everybody(self, ledger: SqlLedger, browse: Open) -> None:
        job = self.failed(ledger)
        ledger.insert(new_job())
        browser = browse(EVERYBODY)
        for path in ("/", "/jobs", f"/jobs/{job.id}", f"/jobs/{job.id + 1}"):
            self.assert_for_everybody(browser.get(path).text)
