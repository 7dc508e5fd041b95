"""The dashboard's page *Overview*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.contract.dashboard_scene import (
    EVERYBODY,
    ONE,
    TYPES,
    DashboardScene,
    Open,
)
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.waiting import patient

from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.operator_state import OperatorState, Publication
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.outbox.task_outbox import Outbox, TaskFailure, insert_task
from spoke_jobs.ledger.outbox.task_replicas import SlotUse
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import (
    Failure,
    JobRequest,
)

PARTS = ("p95", "p50")


class OverviewContract(DashboardScene):
    """What is so now, and in the last hour and day."""

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
        row = r'<th scope="row">worker or pod</th><td>([a-z-]+)</td><td>alive</td><td>(\d)</td><td></td><td><time '
        listed = re.findall(row, page)
        assert sorted(listed) == [("pod-that-runs", "1"), ("worker-of-legacy", "0"), ("worker-of-the-lane", "0")]
        assert "No worker is known" not in page

    def test_the_operator_and_the_task_replicas_with_claims(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at = datetime.now(UTC) - timedelta(seconds=20)
        view = NamespaceView("shop", Publication(at, "spoke-operator-7d", OperatorState()))
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.namespace_in", lambda _namespace: view)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.GLANCE_SECONDS", patient(60))
        outboxes = {runner: Outbox(ledger.engine, runner) for runner in ("kubernetes", "legacy")}
        with ledger.engine.begin() as connection:
            for number in range(7):
                insert_task(connection, "legacy" if number == 5 else "kubernetes", "send", "{}")
        for runner, replica, lease, tasks in (
            *(("kubernetes", "tasks-1", LEASE, 2), ("kubernetes", "dead", 0.0, 1), ("kubernetes", "tasks-2", LEASE, 1)),
            ("legacy", "tasks-1", LEASE, 1),
        ):
            assert len(outboxes[runner].claim(["send"], replica, lease, tasks)) == tasks
        (failed,) = outboxes["kubernetes"].claim(["send"], "tasks-3", LEASE, 1)
        assert outboxes["kubernetes"].fail(failed, TaskFailure("TaskError", retry_seconds=600.0))
        page = browse(EVERYBODY).get("/").text
        (row,) = re.findall(r'<tr><th scope="row">operator</th>(.*?)</tr>', page)
        assert row.startswith("<td>spoke-operator-7d</td><td>alive</td><td></td><td></td><td><time ")
        replicas = re.compile(r'<th scope="row">task replica</th><td>([^<]+)</td><td>(\w+)</td><td>(\d?)</td>')
        assert replicas.findall(page) == [("tasks-1", "alive", ""), ("tasks-2", "alive", "")], "of an earlier release"
        outboxes["legacy"].sign("tasks-1", SlotUse(8, 2, 1), age_seconds=0, first=True)
        page = browse(EVERYBODY).get("/").text
        assert replicas.findall(page) == [("tasks-1", "alive", "3"), ("tasks-2", "alive", "")]
        page = browse(ONE).get("/").text
        assert "task replica" not in page
        assert "spoke-operator-7d" not in page

    def test_since_when_jobs_are_tried_again(self, ledger: SqlLedger, browse: Open) -> None:
        for organization, hours in ((2, 5), (1, 3), (1, 0)):
            job = ledger.insert(new_job(organization_id=organization))
            claim = self.claimed(ledger)
            ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
            times = {"started_at": clock_after(-3_600 * hours), "run_after": clock_after(600)}
            self.alter(ledger, job_request, job_request.c.id == job.id, **times)
        ledger.insert(new_job(run_after=Queries(ledger.engine).now() + timedelta(hours=1)))
        page = browse(EVERYBODY).get("/").text
        assert re.search(r"</strong></a> failed with JobError and are tried again, [^<]+ \(the first attempt of the "
                         r"oldest began 5 h ago\)</p>", page)  # fmt: skip
        assert page.count("the first attempt of the oldest began") == 1
        assert "the first attempt of the oldest began 3 h ago" in browse(ONE).get("/").text

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
        mine = browse(ONE).get("/").text
        assert "Jobs that are due and wait: 3." in mine
        found = [("type=report", "report", "2"), ("type=export", "export", "1"), ("organization=1", "1", "3")]
        assert re.findall(share, mine) == found

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
        assert self.bars(page) == [
            *(("ended", "216", "20", "20"), ("ended", "228", "0", "40"), ("ended", "236", "20", "20")),
            *(("failed", "216", "0", "40"), ("failed", "236", "0", "40")),
        ]
        page = browse(ONE).get("/").text
        assert "2 jobs ended in the last hour.<" in page
        assert "1 job failed for good in the last hour.<" in page
        assert len(self.bars(page)) == 3

    def bars(self, page: str) -> list[tuple[str, str, str, str]]:
        """The bars of the charts that count: their kind, place, top and height."""
        return re.findall(r'<rect class="(ended|failed)" x="(\d+)" y="(\d+)" width="3" height="(\d+)">', page)

    def test_the_day_and_the_week_are_chosen_by_links(self, ledger: SqlLedger, browse: Open) -> None:
        for hours, number in ((0.5, 1), (5.5, 2), (60.5, 4), (200.0, 5)):
            for _ in range(number):
                self.ended(ledger, self.succeeded(ledger), hours * 3_600)
        browser = browse(EVERYBODY)
        page = browser.get("/").text
        assert "1 job ended in the last hour.<" in page
        links = re.findall(r'href="(/\?within=\w+)#ended"( aria-current="true")?>([^<]+)<', page)
        assert [(text, bool(here)) for _, here, text in links] == [
            ("last hour", True),
            ("last day", False),
            ("last 7 days", False),
        ]
        _, day, week = (browser.get(path).text for path, _, _ in links)
        assert '<h2 id="ended">Ended in the last day, by hour</h2>' in day
        assert "3 jobs ended in the last day. The busiest hour began 6 h ago, with 2.<" in day
        assert [place for _, place, *_ in self.bars(day)] == [str(4 * 18), str(4 * 23)]
        assert "7 jobs ended in the last 7 days. The busiest 6 hours began 2 d 18 h ago, with 4.<" in week
        assert '#ended" aria-current="true">last 7 days</a>' in week
        for wrong in ("30d", "x", "1h"):
            assert "by minute</h2>" in browser.get(f"/?within={wrong}").text

    def test_how_long_jobs_waited_and_ran(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        times = ((60, 30, 600), (120, 30, 600), (180, 45, 1_200), (600, 240, 1_200))
        for organization, measured in ((1, times), (2, [(3_600, 1_800, 60)] * 5)):
            for waited, ran, ended in measured:
                job = self.succeeded(ledger, organization_id=organization)
                finished_at = now - timedelta(seconds=ended + 5)
                started_at = finished_at - timedelta(seconds=ran)
                due_at = started_at - timedelta(seconds=waited)
                with ledger.engine.begin() as connection:
                    for statement in (
                        update(job_request)
                        .where(job_request.c.id == job.id)
                        .values(started_at=started_at, finished_at=finished_at),
                        update(job_attempt).where(job_attempt.c.job_id == job.id).values(due_at=due_at),
                    ):
                        connection.execute(statement)
        page = browse(ONE).get("/").text
        assert "4 jobs ended in the last hour." in page
        assert (
            "Wait until the first start: at most 2 min for half of the jobs (p50), at most 10 min for 95 % (p95). "
            "p95 was highest in the minute that began 21 min ago: 10 min.<"
        ) in page
        assert (
            "Time from the first start to the end: at most 30 s for half of the jobs (p50), at most 4 min for 95 % "
            "(p95)."
        ) in page
        slow, half = (re.findall(rf'class="{kind}" x="(\d+)" y="\d+" width="3" height="(\d+)"', page) for kind in PARTS)
        assert slow == [("156", "40"), ("196", "8"), ("156", "40"), ("196", "5")]
        assert half == [("156", "12"), ("196", "4"), ("156", "8"), ("196", "5")]
        assert "at most 1 h for half of the jobs" in browse(EVERYBODY).get("/").text

    def succeeded(self, ledger: SqlLedger, **changes: Any) -> JobRequest:
        job = ledger.insert(new_job(**changes))
        ledger.succeed(None, self.claimed(ledger).token, None)
        return job

    def ended(self, ledger: SqlLedger, job: JobRequest, seconds_ago: float) -> None:
        """Let a job have ended some time ago."""
        then = clock_after(-seconds_ago)
        with ledger.engine.begin() as connection:
            for ended, column in ((job_request, job_request.c.id), (job_attempt, job_attempt.c.job_id)):
                connection.execute(update(ended).where(column == job.id).values(finished_at=then))

    def test_of_many_attempts_a_part_is_counted_evenly_spread(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(12):
            self.ended(ledger, self.succeeded(ledger), 60 * (12 - number) + 30)
        browser = browse(EVERYBODY)
        monkeypatch.setattr("spoke_jobs.ledger.reading.ended_counts.SLICES", 2)
        for module in ("ledger.reading.ended_counts", "web.sparklines"):
            monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", 12)
        page = browser.get("/").text
        assert ">12 jobs ended in the last hour." in page
        assert "estimates" not in page
        assert "may be missing" not in page, "all attempts were read"
        for module in ("ledger.reading.ended_counts", "web.sparklines"):
            monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", 4)
        page = browser.get("/").text
        assert "About 12 jobs ended in the last hour. The busiest minute was 5 min ago, with about 3.<" in page
        assert [60 - int(place) // 4 - 1 for _, place, *_ in self.bars(page)] == [12, 11, 6, 5]
        assert "of the attempts that may have ended in the last hour, only 4 were read, evenly spread." in page
        assert "may be missing" not in page, "the first attempt is in the hour"
        assert "No job failed for good in the last hour.<" in page, "all failures were counted"
        with ledger.engine.begin() as connection:
            before = clock_after(-3 * 3_600)
            connection.execute(update(job_attempt).where(job_attempt.c.id <= 8).values(claimed_at=before))
        page = browser.get("/").text
        assert ">4 jobs ended in the last hour." in page, "the others were claimed too long ago"
        assert "estimates" not in page
        assert "jobs that took longer than 15 min may be missing in the charts." in page
        self.alter(ledger, job_request, finished_at=clock_after(-3 * 3_600))
        assert "No job was found that ended in the last hour." in browser.get("/").text

    def test_the_charts_of_an_organization_do_not_depend_on_others(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither whether they are complete."""
        monkeypatch.setattr("spoke_jobs.ledger.reading.ended_counts.EXAMINED", 4)
        for organization in (1, *[2] * 9):
            self.succeeded(ledger, organization_id=organization)
            self.failed(ledger, organization_id=organization)
        browser = browse(ONE)
        page = browser.get("/").text
        assert ">2 jobs ended in the last hour. The busiest" in page
        assert ">1 job failed for good in the last hour.<" in page
        note = "of each organization, only the 2 newest jobs that succeeded and the 2 newest that failed"
        assert note not in page
        more = [self.succeeded(ledger, organization_id=1) for _ in range(3)]
        page = browser.get("/").text
        assert ">3 jobs ended in the last hour." in page
        assert note in page
        self.alter(ledger, job_request, created_at=clock_after(-2 * 3_600))
        assert note in browser.get("/").text, "a burst that was dispatched before the hour may have ended in it"
        for job in more:
            self.ended(ledger, job, 2 * 3_600)
        assert note not in browser.get("/").text, "of those that were read, none ended in the hour"
        monkeypatch.setattr("spoke_jobs.ledger.reading.ended_counts.MOST_ORGANIZATIONS", 1)
        page = browse(replace(ONE, organizations=frozenset({1, 2, 3}))).get("/").text
        assert "The charts show no jobs of 2 further organizations" in page

    def test_many_failures_are_estimated_before_those_that_were_counted(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for minutes in (2, 10, 20):
            self.ended(ledger, self.failed(ledger), 60 * minutes + 30)
        browser = browse(EVERYBODY)
        assert ">3 jobs failed for good in the last hour.<" in browser.get("/").text
        for module in ("ledger.reading.ended_counts", "web.sparklines"):
            monkeypatch.setattr(f"spoke_jobs.{module}.FAILED_COUNTED", 1)
        page = browser.get("/").text
        assert "About 3 jobs failed for good in the last hour.<" in page
        assert "Of the failed and the cancelled jobs, only the 1 that ended last were counted." in page


class OverviewPages(OverviewContract):
    """What depends on no database."""

    def test_a_cluster_that_does_not_answer_does_not_hold_the_overview_up(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = threading.Event()

        def namespace_in(_namespace: str) -> NamespaceView:
            answers.wait(patient(60))
            return NamespaceView("shop")

        monkeypatch.setattr("spoke_jobs.web.cluster_reads.namespace_in", namespace_in)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.SECONDS", 0)  # for the SpokeJobs
        ledger.insert(new_job(runner="kubernetes"))
        try:
            page = browse(EVERYBODY).get("/").text
        finally:
            answers.set()
        assert "<td></td><td>unknown: the cluster has not answered yet</td>" in page

    def test_counts_have_a_cap(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.CAP", 2)
        for module in ("web.pages", "web.overview_views", "web.view_parts"):
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
        monkeypatch.setattr("spoke_jobs.web.overview_views.GROUPS_SHOWN", 1)
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

    def test_due_jobs_are_counted_among_a_bounded_number(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger.insert_many([new_job() for _ in range(4)])
        for most, number, note in ((5, "4", False), (3, "3+", True)):
            for module in ("ledger.reading.due_counts", "web.overview_views"):
                monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", most)
            page = browse(EVERYBODY).get("/").text
            assert f"Jobs that are due and wait: {number}." in page
            assert ("among the first 3 waiting jobs; there may be more" in page) is note

    def test_ended_jobs_of_an_organization_are_counted_among_its_own(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(organization_id=1))
        ledger.succeed(None, self.claimed(ledger).token, None)
        for organization in (1, 1, 2, None):
            self.failed(ledger, organization_id=organization)
        page = browse(ONE).get("/").text
        assert '<span class="number">1</span> succeeded' in page
        assert '<span class="number">2</span> failed' in page
        assert '<span class="number">4</span> failed' in browse(EVERYBODY).get("/").text

    def test_a_job_of_several_attempts_ended_once(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        for _ in range(2):
            ledger.fail(self.claimed(ledger).token, Failure("JobError", "no"), decide=True)
        ledger.succeed(None, self.claimed(ledger).token, None)
        page = browse(EVERYBODY).get("/").text
        assert ">1 job ended in the last hour.<" in page
        assert "No job failed for good in the last hour.<" in page

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
        note = "only the 3 that ended last were counted"
        assert note not in page
        for module in ("ledger.reading.ended_counts", "web.sparklines"):
            monkeypatch.setattr(f"spoke_jobs.{module}.FAILED_COUNTED", 3)
        page = browser.get("/").text
        assert note in page, "the cancelled ones are among those that were counted"
        assert "About 3 jobs ended in the last hour." in page
