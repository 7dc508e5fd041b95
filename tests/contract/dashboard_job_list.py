"""The dashboard's page *Jobs*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, text, update
from tests.contract.dashboard_scene import (
    EVERYBODY,
    ONE,
    DashboardScene,
    Open,
    paged,
)
from tests.contract.ledger import new_job
from tests.contract.predicates import passes

from spoke_jobs.contract.executors import LANES
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.listing_plan import MOST_SOURCES, Place
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import (
    ANY_JOB,
    JobFilter,
    JobOptions,
    JobRequest,
    JobState,
)
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
    JobFilter(schedule="nightly"),
    JobFilter(schedule="nightly", states=(JobState.WAITING,)),
    *(JobFilter(organization_id=number) for number in (1, 2, 3)),
    JobFilter(organizations=frozenset({1}), states=(JobState.WAITING, JobState.SUCCEEDED)),
    JobFilter(organizations=frozenset({1, 2, 3}), job_type="export"),
    JobFilter(organizations=frozenset(range(99)), job_type="export"),
    JobFilter(organizations=frozenset({1}), organization_id=2),
    JobFilter(organizations=frozenset()),
    *(JobFilter(lane=lane) for lane in LANES),
    *(JobFilter(lane=lane, states=(JobState.WAITING,)) for lane in LANES),
    *(JobFilter(lane=lane, organizations=frozenset({1}), job_type="export") for lane in LANES),
    JobFilter(lane="standby", queue_name="q1"),
    JobFilter(first_id=5, last_id=20),
    JobFilter(first_id=5, last_id=20, states=(JobState.WAITING, JobState.FAILED)),
)
"""Of each way to find jobs, some."""


class JobListContract(DashboardScene):
    """Which jobs a page lists, and where it goes on."""

    def test_jobs_are_filtered_and_paged_by_key(self, ledger: SqlLedger, browse: Open) -> None:
        jobs = ledger.insert_many([new_job(job_type=f"type_{number % 2}") for number in range(2 * PER_PAGE + 4)])
        browser = browse(EVERYBODY)
        pages = [*paged(browser, "/jobs?type=type_1&state=waiting")]
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

    def test_a_page_compares_so_many_jobs_and_offers_to_go_on(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.LOOKED_THROUGH", PER_PAGE + 10)
        old = ledger.insert(new_job(job_type="mail.old"))
        jobs = ledger.insert_many([new_job() for _ in range(2 * PER_PAGE + 30)])
        browser = browse(EVERYBODY)
        pages = [*paged(browser, "/jobs?type=mail.*")]
        border = jobs[-(PER_PAGE + 10)].id
        assert f"compared with 60 jobs, down to job {border}. Older jobs may match, too." in pages[0]
        assert "None of these jobs matches the filters." in pages[0]
        assert f'href="/jobs?type=mail.%2A&amp;before={border}" rel="next"' in pages[0]
        assert [self.listed(page) for page in pages] == [[], [], [old.id]]
        assert "may match, too" not in pages[-1]
        upwards = [*paged(browser, f"/jobs?type=mail.*&after={old.id - 1}", "prev")]
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
                expected = [job.id for job in jobs if passes(which, job)]
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
                    runner="legacy" if number < 4 else "kubernetes-worker" if number < 5 else "kubernetes",
                    options=JobOptions(lane="worker" if number == 5 else "standby" if number > 6 else "pod"),
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
        for job in others[::4]:
            self.of_schedule(ledger, job)

    def test_the_lane_is_that_of_the_next_attempt(self, ledger: SqlLedger, browse: Open) -> None:
        rows = (
            *(("kubernetes", "pod"), ("kubernetes", "standby"), ("kubernetes-worker", "worker")),
            *(("kubernetes", "worker"), ("legacy", "standby"), ("kubernetes", "standby")),
        )
        jobs = [ledger.insert(new_job(runner=runner, options=JobOptions(lane=lane))).id for runner, lane in rows]
        browser = browse(EVERYBODY)
        found = {lane: self.listed(browser.get(f"/jobs?lane={lane}").text) for lane in LANES}
        assert found == {"pod": [jobs[3], jobs[0]], "standby": [jobs[5], jobs[1]], "worker": [jobs[2]]}, "one has moved"
        page = browser.get("/jobs?lane=standby&state=waiting").text
        assert self.listed(page) == found["standby"]
        assert "<option selected>standby</option>" in page
        assert "/bulk/cancel?state=waiting&amp;lane=standby" in page
        preview = browser.get("/bulk/cancel?lane=standby").text
        assert re.findall(r"<dt>Lane</dt><dd>(\w+)</dd>", preview) == ["standby"]
        wrong = browser.get("/jobs?lane=gone")
        assert (wrong.status_code, "Choose one of: pod, standby, worker." in wrong.text) == (400, True)

    def test_a_lane_s_jobs_are_found_beside_those_of_many_priorities(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job(runner="kubernetes"))
        for number in range(MOST_SOURCES + 1):
            ledger.insert(new_job(runner="kubernetes-worker", priority=number, options=JobOptions(lane="worker")))
        assert self.listed(browse(EVERYBODY).get("/jobs?lane=pod&state=waiting").text) == [job.id]

    def test_options_of_other_code_do_not_stop_the_filter_for_a_lane(self, ledger: SqlLedger, browse: Open) -> None:
        stored = (
            '{"lane": "standby"}',
            '{"labels": {"lane": "standby"}, "x": "\\"lane\\": \\"standby\\""}',
            '["lane", "standby"]',
            '"standby"',
            '{"lane": "standby", "x": "\\u0000"}',
            '{"lane": "standby", "x": "\\ud800"}',
            '{"lane": ["standby"], "x": null}',
            '{"lane" : "standby", "x": "\\u00e9%"}',
        )
        jobs = [ledger.insert(new_job(runner="kubernetes")).id for _ in stored]
        with ledger.engine.begin() as connection:
            for job_id, options in zip(jobs, stored, strict=True):
                kind = "json" if ledger.engine.dialect.name == "postgresql" else "text"
                statement = text(f"UPDATE job_request SET options = CAST(:options AS {kind}) WHERE id = :id")
                connection.execute(statement, {"options": options, "id": job_id})
        browser = browse(EVERYBODY)
        standby, pod = (self.listed(browser.get(f"/jobs?lane={lane}").text) for lane in ("standby", "pod"))
        assert sorted(standby + pod) == jobs
        assert {jobs[0], jobs[7]} <= set(standby)
        assert not set(standby) & {jobs[1], jobs[2], jobs[3], jobs[6]}

    def of_schedule(self, ledger: SqlLedger, job: JobRequest) -> None:
        """Let a schedule have dispatched a job."""
        due = {"schedule": "nightly", "scheduled_for": job.created_at + timedelta(hours=job.id)}
        self.alter(ledger, job_request, job_request.c.id == job.id, **due)

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
        pages = [*paged(browse(ONE), "/jobs?type=mail.*")]
        assert "compared with 60 jobs. Older jobs may match, too." in pages[0]
        assert [self.listed(page) for page in pages] == [[], [1]]

    def test_jobs_of_a_period_are_found_at_once(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many other jobs there are. Times are in the reader's zone."""
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.LOOKED_THROUGH", 9)
        monkeypatch.setattr("spoke_jobs.ledger.reading.job_listing.SCATTERED", 9)
        first = datetime(2026, 3, 1, tzinfo=UTC)
        jobs = ledger.insert_many([new_job() for _ in range(60)])
        for hour, job in enumerate(jobs):
            self.alter(ledger, job_request, job_request.c.id == job.id, created_at=first + timedelta(hours=hour))
        with ledger.engine.begin() as connection:
            connection.execute(delete(job_request).where(job_request.c.id.in_([jobs[29].id, jobs[31].id])))
        browser = browse(EVERYBODY)
        browser.cookies.set("spoke-jobs-zone", "Asia/Kathmandu")
        page = browser.get("/jobs?since=2026-03-02T10:00&until=2026-03-02T13:00").text  # 04:15 and 07:15 UTC
        assert self.listed(page) == [jobs[30].id]
        assert "may match" not in page
        assert 'type="datetime-local" value="2026-03-02T10:00"' in page
        assert "until=2026-03-02T07%3A15Z" in page, "the links to many jobs at once"
        for query, found in (("since=2026-03-03T08:00Z", jobs[56:]), ("until=2026-03-01T03:00Z", jobs[:3])):
            page = browser.get(f"/jobs?{query}").text
            assert self.listed(page) == [job.id for job in reversed(found)]
            assert "may match" not in page
        for query in ("until=2000-01-01T00:00Z", "since=2100-01-01T00:00Z", "until=0001-01-02T00:00Z"):
            assert "No job matches these filters." in browser.get(f"/jobs?{query}").text
        assert "Give a date and a time" in browser.get("/jobs?since=soon").text
        assert "<h1>Cancel 3 jobs</h1>" in browser.get("/bulk/cancel?until=2026-03-01T03:00Z").text

    def test_each_filter(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed(ledger, job_type="export", organization_id=3)
        self.of_schedule(ledger, ledger.insert(new_job(queue_name="q", organization_id=9, unique_key="k")))
        browser = browse(EVERYBODY)
        for query, found in (
            *(("state=failed", ["export"]), ("cause=JobError", ["export"]), ("type=re*", ["report"])),
            *(("queue=q", ["report"]), ("organization=9", ["report"]), ("key=k", ["report"]), ("key=other", [])),
            *(("schedule=nightly", ["report"]), ("schedule=*", [])),
        ):
            page = browser.get(f"/jobs?{query}").text
            assert re.findall(r'</th>\s*<td>(\w+)</td>\s*<td><span class="state', page) == found, query


class JobListPages(JobListContract):
    """What depends on no database."""

    def test_a_job_that_has_ended_is_listed_with_its_end(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed(ledger)
        ledger.insert(new_job())
        page = browse(EVERYBODY).get("/jobs").text
        heading = page.split('<th scope="col">').index("Ended</th>") - 1
        rows = re.findall(r"<tr>\s*<th.*?</tr>", page, re.S)
        ended = [re.findall(r"<t[hd].*?</t[hd]>", row, re.S)[heading] for row in rows]
        assert ended[-2] == "<td></td>"
        assert " ago</time>" in ended[-1]

    def test_an_id_leads_to_its_job(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        assert browse(EVERYBODY).get(f"/jobs?id={job.id}").headers["location"] == f"/jobs/{job.id}"
