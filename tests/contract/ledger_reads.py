"""What people read of many jobs: waits, statistics and events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.contract.ledger import LEASE, claim_next, claim_one, new_job, present, succeed_new
from tests.waiting import eventually

from spoke_jobs.contract.executors import CLUSTER_RUNNER, row_runner
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.reading.chart_periods import HOUR
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_event, job_request
from spoke_jobs.model import ANY_JOB, Claim, Failure, JobFilter, JobOptions, JobRequest
from spoke_jobs.worker.worker_metrics import claimed_attempt

LONG = 7_200.0
"""How long before their due time jobs were dispatched."""
SOON = 3_600.0
"""More than the tests take."""


class WaitContract:
    """The waits that are measured from when a job was due."""

    def dispatched(self, ledger: SqlLedger, **changes: Any) -> JobRequest:
        """Dispatch a job, long ago."""
        job = ledger.insert(new_job(**changes))
        self.write(ledger, job, {"created_at": clock_after(-LONG)})
        return job

    def write(self, ledger: SqlLedger, job: JobRequest, values: Mapping[str, Any]) -> None:
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == job.id).values(**values))

    def write_due(self, ledger: SqlLedger, job: JobRequest, due_at: Any, run: int = 1) -> None:
        """Let the first attempt of a run have been due at another time."""
        first = (job_attempt.c.job_id == job.id, job_attempt.c.run == run, job_attempt.c.number == 1)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_attempt).where(*first).values(due_at=due_at))

    def next_claim(self, ledger: SqlLedger) -> Claim:
        return claim_next(ledger)

    def waits(self, ledger: SqlLedger) -> set[int]:
        """The median wait in `stats` and in the charts of those who see all jobs and of others, in hours."""
        queries = DashboardQueries(ledger.engine)
        charts = [queries.ended(which, HOUR).wait.whole for which in (ANY_JOB, JobFilter(organizations=frozenset({3})))]
        found = [Queries(ledger.engine).statistics(GroupedBy.TYPE, SOON, ANY_JOB).total.wait, *charts]
        assert all(found)
        return {round(each.p50 / 3_600, 1) for each in found if each is not None}

    def test_a_job_that_was_dispatched_for_later_waits_from_then_on(self, ledger: SqlLedger) -> None:
        """Also if its first claim was given back."""
        job = self.dispatched(ledger)
        self.write(ledger, job, {"run_after": clock_now()})
        assert ledger.release(self.next_claim(ledger).token)
        claim = self.next_claim(ledger)
        waited = present(claimed_attempt(claim).wait_seconds)
        assert waited < SOON
        ledger.succeed(None, claim.token, None)
        assert self.waits(ledger) == {0.0}

    def test_a_blocked_job_waits_from_the_end_of_the_one_before(self, ledger: SqlLedger) -> None:
        first = self.dispatched(ledger, organization_id=4)
        self.dispatched(ledger, after=(first.id,))
        ledger.succeed(None, self.next_claim(ledger).token, None)
        self.write(ledger, first, {"finished_at": clock_after(-LONG)})  # it is not in the period
        ledger.succeed(None, self.next_claim(ledger).token, None)
        assert self.waits(ledger) == {0.0}

    def test_a_job_that_is_retried_by_hand_waits_from_then_on(self, ledger: SqlLedger) -> None:
        job = self.dispatched(ledger)
        ledger.fail(self.next_claim(ledger).token, Failure("JobError", for_good=True), decide=True)
        assert self.waits(ledger) == {2.0}, "of the first run"
        retried = present(ledger.retry(job.id))
        oldest = Queries(ledger.engine).statistics(GroupedBy.TYPE, SOON, ANY_JOB).total.oldest_due_at
        assert oldest == retried.run_after
        ledger.succeed(None, self.next_claim(ledger).token, None)
        assert self.waits(ledger) == {0.0}

    @pytest.mark.parametrize("ends", ["succeeded", "failed"])
    def test_the_wait_is_that_of_the_first_attempt_of_the_run(self, ledger: SqlLedger, ends: str) -> None:
        job = ledger.insert(new_job())
        ledger.fail(self.next_claim(ledger).token, Failure("JobError", for_good=True), decide=True)
        self.write_due(ledger, job, clock_after(-9 * LONG))
        ledger.retry(job.id)
        ledger.fail(self.next_claim(ledger).token, Failure("JobError"), decide=True)
        self.write_due(ledger, job, clock_after(-LONG / 2), run=2)
        claim = self.next_claim(ledger)
        assert claim.number == 2
        if ends == "succeeded":
            ledger.succeed(None, claim.token, None)
        else:
            ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        assert self.waits(ledger) == {1.0}

    def test_the_first_attempt_may_not_have_the_first_number(self, ledger: SqlLedger) -> None:
        """A pod that ended before it claimed its job leaves no row."""
        job = self.dispatched(ledger, runner="kubernetes")
        self.write(ledger, job, {"run_after": clock_now()})
        claim = ledger.claim(job.id, job.uid, 1, 2, "pod", LEASE)
        assert isinstance(claim, Claim)
        ledger.succeed(None, claim.token, None)
        assert self.waits(ledger) == {0.0}

    def test_without_a_due_time_the_dispatch_counts(self, ledger: SqlLedger) -> None:
        """As of a job that an earlier release has claimed."""
        job = self.dispatched(ledger)
        self.write(ledger, job, {"run_after": clock_now()})
        ledger.succeed(None, self.next_claim(ledger).token, None)
        self.write_due(ledger, job, None)
        assert self.waits(ledger) == {2.0}


class StatisticsContract:
    """Subclass it with fixtures ``ledger`` and ``queries``."""

    def test_statistics_of_each_type(self, ledger: SqlLedger, queries: Queries) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        first = ledger.insert(new_job())
        for more in ({}, {"job_type": "export"}, {"job_type": "export", "run_after": later}):
            ledger.insert(new_job(**more))
        ledger.succeed(None, claim_next(ledger).token, None)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE)
        failed = claim_next(ledger, types=["export"])
        ledger.fail(failed.token, Failure("JobError", for_good=True), decide=True)
        ledger.insert(new_job(job_type="export", queue_name="q"))

        found = queries.statistics(GroupedBy.TYPE, 3600, ANY_JOB)
        export, report = found.groups
        assert (export.name, export.waiting, export.running, export.succeeded, export.failed) == ("export", 2, 0, 0, 1)
        assert (report.name, report.waiting, report.running, report.succeeded, report.failed) == ("report", 0, 1, 1, 0)
        assert report.oldest_due_at is None
        assert export.oldest_due_at is not None
        assert first.created_at <= export.oldest_due_at <= found.now, "a job that is due later is not the oldest"
        assert report.wait is not None
        assert 0 <= report.wait.p50 < 60
        total = found.total
        assert (total.waiting, total.running, total.succeeded, total.failed) == (2, 1, 1, 1)

        only = queries.statistics(GroupedBy.QUEUE, 3600, JobFilter(queue_name="q"))
        assert [(group.name, group.waiting) for group in only.groups] == [("q", 1)]
        assert {group.name for group in queries.statistics(GroupedBy.CAUSE, 3600, ANY_JOB).groups} == {"", "JobError"}
        assert [group.name for group in queries.statistics(GroupedBy.ORGANIZATION, 3600, ANY_JOB).groups] == ["3"]

    def test_statistics_of_lanes(self, ledger: SqlLedger, queries: Queries) -> None:
        jobs = [ledger.insert(new_job())]
        for lane in ("pod", "standby", "standby", "worker", "worker", "worker"):
            runner = row_runner(CLUSTER_RUNNER, lane)
            jobs.append(ledger.insert(new_job(runner=runner, options=JobOptions(lane=lane))))
        ledger.cancel(jobs[-1].id)

        def counted(which: JobFilter) -> dict[str, tuple[int, int]]:
            groups = queries.statistics(GroupedBy.LANE, 3600, which).groups
            return {group.name: (group.waiting, group.failed) for group in groups}

        assert counted(ANY_JOB) == {"": (1, 0), "pod": (1, 0), "standby": (2, 0), "worker": (2, 1)}
        assert counted(JobFilter(lane="standby")) == {"standby": (2, 0)}

    def test_statistics_count_what_ended_within_the_period(self, ledger: SqlLedger, queries: Queries) -> None:
        succeed_new(ledger)
        eventually(lambda: not queries.statistics(GroupedBy.TYPE, 0.001, ANY_JOB).groups)
        assert queries.statistics(GroupedBy.TYPE, 3600, ANY_JOB).total.succeeded == 1


class EventsContract:
    """Whoever changes a job, the event says so. Subclass it with fixtures ``ledger`` and ``queries``."""

    def test_who_did_what(self, ledger: SqlLedger, queries: Queries) -> None:
        waiting = ledger.insert(new_job(job_type="export"))
        assert ledger.cancel(waiting.id, "ada@laptop").result_message == "ada@laptop cancelled the job."  # type: ignore[union-attr]
        ledger.cancel(waiting.id, "nobody"), ledger.cancel(999, "nobody")
        ledger.retry(waiting.id, "grace@desk"), ledger.retry(waiting.id, "nobody")
        ledger.insert(new_job())
        claim = claim_next(ledger)
        running = claim.job
        ledger.cancel(running.id), ledger.cancel(running.id, "nobody")
        found = [(event.actor, event.action, event.job_id, event.detail) for event in queries.events()]
        assert found == [
            ("", "cancel", running.id, "running"),
            ("grace@desk", "retry", waiting.id, "run 2"),
            ("ada@laptop", "cancel", waiting.id, "waiting"),
        ]
        assert [event.action for event in queries.events(which=EventFilter(job_id=waiting.id))] == ["retry", "cancel"]
        assert [event.job_type for event in queries.events(1, EventFilter(action="retry", actor="grace@*"))] == [
            "export"
        ]
        assert queries.events(which=EventFilter(since=queries.now() + timedelta(minutes=1))) == []

    def test_deleting_by_hand_is_an_event_and_regular_deleting_is_none(
        self, ledger: SqlLedger, queries: Queries
    ) -> None:
        for by in ("", "ada@laptop"):
            succeed_new(ledger)
            eventually(lambda by=by: ledger.prune(older_than_seconds=0.0, by=by) == 1)  # type: ignore[misc]
        assert [(event.actor, event.action, event.detail) for event in queries.events()] == [
            ("ada@laptop", "prune", "1 jobs")
        ]

    def test_an_event_is_there_exactly_if_its_change_is(self, ledger: SqlLedger, queries: Queries) -> None:
        first = ledger.insert(new_job(unique_key="k"))
        ledger.cancel(first.id, "ada@laptop")
        ledger.insert(new_job(unique_key="k"))
        with pytest.raises(UniquenessConflict):
            ledger.retry(first.id, "ada@laptop")
        assert [event.action for event in queries.events()] == ["cancel"]

    def test_events_are_deleted_after_a_year(self, ledger: SqlLedger, queries: Queries) -> None:
        job = ledger.insert(new_job())
        ledger.cancel(job.id)
        ledger.retry(job.id)
        last = queries.events()[-1]
        with ledger.engine.begin() as connection:
            old = job_event.update().where(job_event.c.id == last.id).values(at=last.at - timedelta(days=366))
            connection.execute(old)
        ledger.prune()
        assert [event.action for event in queries.events()] == ["retry"]
