"""What every ledger must do with batches: jobs that are counted together, and the job that follows them."""

from __future__ import annotations

import pytest
from tests.contract.ledger import LEASE, LedgerSteps, new_job

from spoke_jobs.errors import DependencyNotMet, InvalidJobData
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import Failure, JobFilter, JobRequest, JobState

FOR_GOOD = Failure("JobError", "no", for_good=True)


class GroupContract(LedgerSteps):
    """What ``batch()`` promises."""

    def opened(self, ledger: Ledger, size: int, on_failed: str = "fail") -> tuple[Batch, list[JobRequest]]:
        """Open a batch with some jobs, and close it."""
        batch = ledger.open_batch("march", new_job(), on_failed)
        jobs = list(ledger.insert_many([new_job(batch_id=batch.id) for _ in range(size)]))
        closed = ledger.close_batch(batch.id)
        assert closed is not None
        return closed, jobs

    def then(self, ledger: Ledger, batch: Batch) -> tuple[JobState, str]:
        job = ledger.get(batch.then_id or 0)
        assert job is not None
        return job.state, job.cause

    def counts(self, ledger: Ledger, batch: Batch) -> tuple[int, int, int, bool]:
        found = ledger.batch(batch.id)
        assert found is not None
        return found.total, found.succeeded, found.failed, found.finished_at is not None

    def test_the_job_that_follows_starts_after_the_last_end(self, ledger: Ledger) -> None:
        batch, jobs = self.opened(ledger, 3)
        assert (batch.name, batch.total, batch.closed_at is not None) == ("march", 3, True)
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
        assert [claim.job.id for claim in claims] == [job.id for job in jobs]
        assert len(ledger.succeed_many({claim.token: None for claim in claims[:2]})) == 2
        assert self.counts(ledger, batch) == (3, 2, 0, False)
        assert self.then(ledger, batch) == (JobState.BLOCKED, "")
        ledger.succeed(None, claims[2].token, None)
        assert self.counts(ledger, batch) == (3, 3, 0, True)
        assert self.batch(ledger, 8) == [batch.then_id]

    def test_a_filter_selects_the_jobs_of_a_batch_and_those_until_one(self, ledger: Ledger) -> None:
        batch, (first, second) = self.opened(ledger, 2)
        ledger.insert(new_job())

        def listed(**fields: int) -> list[int]:
            return [job.id for job in ledger.list_jobs(9, JobFilter(**fields))]  # type: ignore[arg-type]

        assert listed(batch_id=batch.id) == [second.id, first.id]
        assert listed(batch_id=batch.id, last_id=first.id) == [first.id]
        assert max(listed(last_id=second.id)) == second.id

    @pytest.mark.parametrize(("on_failed", "state"), [("fail", JobState.FAILED), ("run", JobState.WAITING)])
    def test_a_failure_fails_the_job_that_follows_or_is_no_obstacle(
        self, ledger: Ledger, on_failed: str, state: JobState
    ) -> None:
        batch, (first, second, third) = self.opened(ledger, 3, on_failed)
        ledger.cancel(second.id)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.then(ledger, batch)[0] is JobState.BLOCKED
        ledger.fail(self.claim_next(ledger).token, FOR_GOOD, decide=True)
        assert self.counts(ledger, batch) == (3, 1, 2, True)
        assert self.then(ledger, batch)[0] is state
        then = ledger.get(batch.then_id or 0)
        assert then is not None
        assert then.result_message == (
            f"2 of 3 jobs of batch {batch.id} (march) failed" if state is JobState.FAILED else ""
        )
        assert not any(job.awaited or job.batch_open for job in ledger.list_jobs())
        assert first.batch_id == third.batch_id == batch.id

    def test_an_open_batch_does_not_finish(self, ledger: Ledger) -> None:
        batch = ledger.open_batch("march", new_job())
        ledger.insert(new_job(batch_id=batch.id))
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.counts(ledger, batch) == (1, 1, 0, False)
        assert self.then(ledger, batch)[0] is JobState.BLOCKED
        ledger.insert(new_job(batch_id=batch.id))
        assert ledger.close_batch(batch.id) is not None
        claim = self.claim_next(ledger)
        ledger.insert(new_job(batch_id=batch.id))  # a running job adds to its own batch
        ledger.succeed(None, claim.token, None)
        assert self.counts(ledger, batch) == (3, 2, 0, False)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.then(ledger, batch)[0] is JobState.WAITING
        with pytest.raises(InvalidJobData, match=rf"batch {batch.id} \(march\) has finished"):
            ledger.insert(new_job(batch_id=batch.id))
        with pytest.raises(InvalidJobData, match="no batch 99"):
            ledger.insert(new_job(batch_id=99))

    def test_an_empty_batch_finishes_when_it_is_closed(self, ledger: Ledger) -> None:
        batch, _ = self.opened(ledger, 0)
        assert batch.finished_at is not None
        assert self.then(ledger, batch)[0] is JobState.WAITING
        assert ledger.close_batch(batch.id) == batch
        assert ledger.close_batch(99) is None
        assert [one.id for one in ledger.batches()] == [batch.id]

    def test_a_retry_reopens_the_batch(self, ledger: Ledger) -> None:
        batch, (first, second) = self.opened(ledger, 2)
        later = ledger.insert(new_job(after=(batch.then_id,)))
        ledger.cancel(first.id)
        ledger.cancel(second.id)
        assert self.then(ledger, batch) == (JobState.FAILED, "DependencyFailed")
        with pytest.raises(DependencyNotMet, match=r"in which 2 jobs have failed"):
            ledger.retry(batch.then_id or 0)
        ledger.retry(first.id)
        assert self.counts(ledger, batch) == (2, 0, 1, False)
        assert self.then(ledger, batch) == (JobState.BLOCKED, "")
        ledger.retry(second.id)
        for _ in range(2):
            ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.counts(ledger, batch) == (2, 2, 0, True)
        assert self.claim_next(ledger).job.id == batch.then_id
        found = ledger.get(later.id)
        assert found is not None
        assert found.state is JobState.BLOCKED

    def test_jobs_that_fail_for_others_are_counted(self, ledger: Ledger) -> None:
        batch = ledger.open_batch("march", new_job())
        first = ledger.insert(new_job(batch_id=batch.id))
        second = ledger.insert(new_job(batch_id=batch.id, after=(first.id,)))
        ledger.close_batch(batch.id)
        ledger.cancel(first.id)
        assert self.counts(ledger, batch) == (2, 0, 2, True)
        assert ledger.insert(new_job(after=(second.id,))).state is JobState.FAILED
        with pytest.raises(InvalidJobData, match="no unique_key"):
            ledger.open_batch("april", new_job(unique_key="k"))
