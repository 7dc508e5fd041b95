"""How long jobs waited until their first start: in `stats`, in the dashboard's chart and in a worker's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import update
from tests.contract.ledger import LEASE, claim_next, new_job, present

from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.reading.chart_periods import HOUR
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import ANY_JOB, Claim, Failure, JobFilter, JobRequest
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
