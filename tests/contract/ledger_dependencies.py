"""What every ledger must do with jobs that depend on others, and with batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.contract.ledger import EAGER, FOR_GOOD, LEASE, SHORT, LedgerSteps, new_job, present
from tests.waiting import eventually, stays

from spoke_jobs.errors import DependencyNotMet, InvalidJobData
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.port import NotThisAttempt
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import FailedJob, Failure, JobFilter, JobOptions, JobRequest, JobState

BLOCKED, WAITING, RUNNING, FAILED = JobState.BLOCKED, JobState.WAITING, JobState.RUNNING, JobState.FAILED


class DependencyContract(LedgerSteps):
    """What ``after=`` promises."""

    def after(self, ledger: Ledger, *jobs: JobRequest, **changes: object) -> JobRequest:
        """Dispatch a job after others."""
        return ledger.insert(new_job(after=tuple(job.uid for job in jobs), **changes))

    def states(self, ledger: Ledger, *jobs: JobRequest) -> list[str]:
        found = [ledger.get(job.id) for job in jobs]
        return [f"{job.state}:{job.cause}".rstrip(":") for job in found if job is not None]

    def test_a_job_is_blocked_until_those_it_depends_on_have_succeeded(self, ledger: Ledger) -> None:
        first, second = ledger.insert(new_job()), ledger.insert(new_job())
        job = self.after(ledger, first, second, first)
        assert (job.state, job.open_dependencies) == (BLOCKED, 2)
        assert ledger.get(job.id) == job
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
        assert [claim.job.id for claim in claims] == [first.id, second.id]
        assert isinstance(self.pod_claim(ledger, job, 1), NotThisAttempt)
        ledger.succeed(None, claims[1].token, None)
        assert self.states(ledger, job) == ["blocked"]
        assert self.batch(ledger, 8) == []
        ledger.succeed(None, claims[0].token, None)
        assert self.batch(ledger, 8) == [job.id]
        assert not any(one.awaited or one.open_dependencies for one in ledger.list_jobs())

    def test_a_job_that_a_running_job_dispatches_after_itself_waits_for_its_end(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
        following = self.after(ledger, claim.job)
        assert (following.state, self.batch(ledger, 8)) == (BLOCKED, [])
        ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
        assert self.states(ledger, first, following) == ["waiting:JobError", "blocked"], "another attempt follows"
        (again,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
        ledger.succeed(None, again.token, None)
        assert self.batch(ledger, 8) == [following.id]

    @pytest.mark.parametrize("end", ["fail", "cancel", "cancel while it runs", "reap", "expire", "release"])
    def test_every_end_of_a_job_reaches_its_dependents(self, ledger: Ledger, end: str) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=SHORT if end == "expire" else None)
        first = ledger.insert(new_job(options=options))
        strict, lenient = self.after(ledger, first), self.after(ledger, first, after_failed="run")
        second = self.after(ledger, strict)
        if end not in ("cancel", "expire"):
            claim = self.claim_next(ledger, SHORT if end == "reap" else LEASE)
        if end == "fail":
            ledger.fail(claim.token, Failure("JobError"), decide=True)
            assert self.states(ledger, first, strict, lenient) == ["waiting:JobError", "blocked", "blocked"]
            ledger.fail(self.claim_next(ledger).token, FOR_GOOD, decide=True)
        elif end == "expire":
            eventually(lambda: len(ledger.expire_starts("legacy", ["report"])) == 1)
        else:
            ledger.cancel(first.id)
        if end == "cancel while it runs":
            assert self.states(ledger, strict) == ["blocked"]
            ledger.fail(claim.token, Failure("JobError"), decide=True)
        elif end == "reap":
            eventually(lambda: len(ledger.reap("legacy")) == 1)
        elif end == "release":
            ledger.release(claim.token)
        assert self.states(ledger, strict, second, lenient) == [
            "failed:DependencyFailed", "failed:DependencyFailed", "waiting"
        ]  # fmt: skip
        ended = present(ledger.get(strict.id))
        assert f"job {first.id} (report)" in ended.result_message
        assert ended.finished_at is not None
        assert not any(one.awaited or one.open_dependencies for one in ledger.list_jobs())
        assert self.batch(ledger, 8) == [lenient.id]

    def test_what_failed_for_another_job_has_an_on_failure_too(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        job = self.after(ledger, first, options=JobOptions(on_failure="tell"))
        ledger.cancel(first.id)
        (told,) = self.of_type(ledger, "tell")
        assert FailedJob.model_validate_json(told.payload).id == job.id

    def test_an_ended_job_blocks_nothing(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, None)
        done, failed = self.row(ledger, claim), ledger.insert(new_job())
        ledger.cancel(failed.id)
        assert self.after(ledger, done).state is WAITING
        late = self.after(ledger, done, failed)
        assert (late.state, late.cause) == (FAILED, "DependencyFailed")
        assert ledger.get(late.id) == late
        assert self.after(ledger, done, failed, after_failed="run").state is WAITING

    def test_jobs_that_do_not_exist_are_refused(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        for other in (job.id + 7, 2**70, uuid4()):
            with pytest.raises(InvalidJobData, match=rf"no job {other}"):
                ledger.insert_many([new_job(), new_job(after=(job.id, other))])
        assert [one.id for one in ledger.list_jobs()] == [job.id]

    def test_the_holder_of_a_key_gets_no_dependencies(self, ledger: Ledger) -> None:
        first, holder = ledger.insert(new_job()), ledger.insert(new_job(unique_key="k"))
        assert self.after(ledger, first, unique_key="k") == holder
        blocked = self.after(ledger, first, unique_key="other")
        assert blocked.state is BLOCKED
        assert ledger.insert(new_job(unique_key="other")) == blocked  # a blocked job keeps its key

    def test_a_cancelled_job_no_longer_waits(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        job = self.after(ledger, first)
        second = self.after(ledger, job)
        ended = ledger.cancel(job.id)
        assert ended == ledger.get(job.id)
        assert self.states(ledger, first, job, second) == ["waiting", "failed:Cancelled", "failed:DependencyFailed"]
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.states(ledger, job, second) == ["failed:Cancelled", "failed:DependencyFailed"]

    def test_a_retry_blocks_again_what_failed_with_the_job(self, ledger: Ledger) -> None:
        first, other = ledger.insert(new_job()), ledger.insert(new_job())
        job, cancelled = self.after(ledger, first, other), self.after(ledger, first)
        last = self.after(ledger, job)
        ledger.cancel(cancelled.id)
        ledger.cancel(first.id)
        with pytest.raises(DependencyNotMet, match=rf"job {job.id} depends on job {first.id} \(report\)"):
            ledger.retry(job.id)
        again = ledger.retry(first.id)
        assert again == ledger.get(first.id)
        assert self.states(ledger, job, last, cancelled) == ["blocked", "blocked", "failed:Cancelled"]
        assert [one.run for one in map(ledger.get, (first.id, job.id, last.id)) if one] == [2, 2, 2]
        for _ in range(2):
            ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.batch(ledger, 8) == [job.id]
        assert self.states(ledger, last) == ["blocked"]

    def test_a_retry_blocks_nothing_that_another_failure_holds(self, ledger: Ledger) -> None:
        first, other = ledger.insert(new_job()), ledger.insert(new_job())
        job = self.after(ledger, first, other)
        ledger.cancel(first.id)
        ledger.cancel(other.id)
        ledger.retry(first.id)
        assert self.states(ledger, job) == ["failed:DependencyFailed"]
        ledger.retry(other.id)
        assert self.states(ledger, job) == ["blocked"]
        waits = present(ledger.get(job.id))
        assert waits.open_dependencies == 2

    def test_a_retried_job_waits_for_those_it_depends_on(self, ledger: Ledger) -> None:
        first, other = ledger.insert(new_job()), ledger.insert(new_job(priority=-1))
        job = self.after(ledger, first, other)
        ledger.cancel(job.id)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        again = present(ledger.retry(job.id))
        assert (again.state, again.open_dependencies, again.run) == (BLOCKED, 1, 2)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.batch(ledger, 8) == [job.id]

    def test_a_retry_leaves_out_a_dependent_whose_key_is_taken(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        old = self.after(ledger, first, unique_key="k")
        ledger.cancel(first.id)
        ledger.insert(new_job(unique_key="k"))
        assert ledger.retry(first.id) is not None
        assert self.states(ledger, old) == ["failed:DependencyFailed"]

    def test_what_an_unfinished_job_depends_on_is_kept(self, ledger: Ledger) -> None:
        brief = JobOptions(retention_seconds=0, retry=EAGER)
        first, other = ledger.insert(new_job(options=brief)), ledger.insert(new_job(priority=-1))
        job = self.after(ledger, first, other, options=brief)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        alone = ledger.insert(new_job(options=brief))
        ledger.cancel(alone.id)
        eventually(lambda: ledger.prune() == 1)
        assert ledger.prune(older_than_seconds=0) == 0
        assert ledger.get(first.id) is not None
        ledger.succeed(None, self.claim_next(ledger).token, None)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        eventually(lambda: ledger.prune() == 2)
        assert ledger.get(first.id) is ledger.get(job.id) is None

    def test_a_start_timeout_begins_when_a_job_is_unblocked(self, ledger: Ledger) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        first = ledger.insert(new_job())
        options = JobOptions(start_timeout_seconds=SHORT)
        brief, due_later = self.after(ledger, first, options=options), self.after(ledger, first, run_after=later)
        assert stays(lambda: not ledger.expire_starts("legacy", ["report"]), 3 * SHORT)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        unblocked, patient = ledger.get(brief.id), ledger.get(due_later.id)
        assert unblocked is not None
        assert patient is not None
        assert unblocked.start_by is not None
        assert unblocked.run_after is not None
        assert unblocked.start_by > unblocked.run_after >= brief.created_at
        assert patient.run_after == due_later.run_after
        eventually(lambda: [job.id for job in ledger.expire_starts("legacy", ["report"])] == [brief.id])

    def test_a_chain(self, ledger: Ledger) -> None:
        chain = [ledger.insert(new_job())]
        for _ in range(39):
            chain.append(self.after(ledger, chain[-1]))
        for job in chain[:10]:
            claim = self.claim_next(ledger)
            assert claim.job.id == job.id
            ledger.succeed(None, claim.token, None)
        ledger.cancel(chain[10].id)
        assert self.states(ledger, *chain[11:]) == ["failed:DependencyFailed"] * 29
        ledger.retry(chain[10].id)
        assert self.states(ledger, *chain[11:]) == ["blocked"] * 29

    def test_a_fan_out(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        fan = ledger.insert_many([new_job(after=(first.id,)) for _ in range(150)])
        last = ledger.insert(new_job(after=tuple(job.id for job in fan)))
        ledger.succeed(None, self.claim_next(ledger).token, None)
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1000)
        assert [claim.job.id for claim in claims] == [job.id for job in fan]
        assert len(ledger.succeed_many({claim.token: None for claim in claims})) == 150
        while ledger.settle():
            pass  # the end itself handles dependents for a second
        assert self.batch(ledger, 8) == [last.id]

    def test_no_job_of_a_batch_waits_for_the_one_that_follows_the_batch(self, ledger: Ledger) -> None:
        """Directly, by way of another job, or by way of another batch: neither would ever start."""
        batch = ledger.open_batch("march", new_job())
        then = present(ledger.get(batch.then_id or 0))
        inner = ledger.open_batch("april", new_job(batch_id=batch.id))
        between = self.after(ledger, then)
        refused = [(then, batch.id), (between, batch.id), (then, inner.id)]
        for needed, batch_id in refused:
            with pytest.raises(InvalidJobData, match=rf"job {needed.id} waits for the end of batch {batch_id}"):
                self.after(ledger, needed, batch_id=batch_id)
        assert [found.total for found in ledger.batches()] == [0, 1], "nothing was written"
        first = ledger.insert(new_job(batch_id=batch.id))
        second = self.after(ledger, first, batch_id=batch.id)
        follows = self.after(ledger, second, batch_id=inner.id)
        ledger.close_batch(inner.id)
        ledger.close_batch(batch.id)
        ended: list[int] = []
        while claims := ledger.claim_batch("legacy", ["report"], "w", LEASE, 8):
            ended += [claim.job.id for claim in claims]
            ledger.succeed_many({claim.token: None for claim in claims})
        assert ended == [first.id, second.id, follows.id, inner.then_id, then.id, between.id]


class GroupContract(LedgerSteps):
    """What ``batch()`` promises."""

    def opened(self, ledger: Ledger, size: int, on_failed: str = "fail") -> tuple[Batch, list[JobRequest]]:
        """Open a batch with some jobs, and close it."""
        batch = ledger.open_batch("march", new_job(), on_failed)
        jobs = list(ledger.insert_many([new_job(batch_id=batch.id) for _ in range(size)]))
        closed = present(ledger.close_batch(batch.id))
        return closed, jobs

    def then(self, ledger: Ledger, batch: Batch) -> tuple[JobState, str]:
        job = present(ledger.get(batch.then_id or 0))
        return job.state, job.cause

    def counts(self, ledger: Ledger, batch: Batch) -> tuple[int, int, int, bool]:
        found = present(ledger.batch(batch.id))
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
        then = present(ledger.get(batch.then_id or 0))
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
        found = present(ledger.get(later.id))
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
