"""The statistics of jobs by type, queue, lane and cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.contract.ledger import LEASE, claim_next, claim_one, new_job, succeed_new
from tests.waiting import eventually

from spoke_jobs.contract.executors import CLUSTER_RUNNER, row_runner
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, Failure, JobFilter, JobOptions


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
