"""What every ledger must do with jobs that depend on others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.contract.ledger import EAGER, LEASE, SHORT, LedgerSteps, new_job
from tests.waiting import eventually, stays

from spoke_jobs.errors import DependencyNotMet, InvalidJobData
from spoke_jobs.ledger.port import NotThisAttempt
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import FailedJob, Failure, JobOptions, JobRequest, JobState

BLOCKED, WAITING, RUNNING, FAILED = JobState.BLOCKED, JobState.WAITING, JobState.RUNNING, JobState.FAILED
FOR_GOOD = Failure("JobError", "no", for_good=True)


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
        ended = ledger.get(strict.id)
        assert ended is not None
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
        waits = ledger.get(job.id)
        assert waits is not None
        assert waits.open_dependencies == 2

    def test_a_retried_job_waits_for_those_it_depends_on(self, ledger: Ledger) -> None:
        first, other = ledger.insert(new_job()), ledger.insert(new_job(priority=-1))
        job = self.after(ledger, first, other)
        ledger.cancel(job.id)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        again = ledger.retry(job.id)
        assert again is not None
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

    def test_a_diamond(self, ledger: Ledger) -> None:
        top = ledger.insert(new_job())
        sides = [self.after(ledger, top) for _ in range(3)]
        bottom = self.after(ledger, *sides)
        ran: list[int] = []
        while claims := ledger.claim_batch("legacy", ["report"], "w", LEASE, 8):
            ran += [claim.job.id for claim in claims]
            assert ledger.succeed_many({claim.token: None for claim in claims}) == {claim.token for claim in claims}
        assert ran == [top.id, *(side.id for side in sides), bottom.id]

    def test_a_chain_of_a_hundred(self, ledger: Ledger) -> None:
        chain = [ledger.insert(new_job())]
        for _ in range(99):
            chain.append(self.after(ledger, chain[-1]))
        for job in chain[:50]:
            claim = self.claim_next(ledger)
            assert claim.job.id == job.id
            ledger.succeed(None, claim.token, None)
        ledger.cancel(chain[50].id)
        assert self.states(ledger, *chain[51:]) == ["failed:DependencyFailed"] * 49
        ledger.retry(chain[50].id)
        assert self.states(ledger, *chain[51:]) == ["blocked"] * 49

    def test_a_fan_out_of_five_hundred(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        fan = ledger.insert_many([new_job(after=(first.id,)) for _ in range(500)])
        last = ledger.insert(new_job(after=tuple(job.id for job in fan)))
        ledger.succeed(None, self.claim_next(ledger).token, None)
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1000)
        assert [claim.job.id for claim in claims] == [job.id for job in fan]
        assert len(ledger.succeed_many({claim.token: None for claim in claims})) == 500
        while ledger.settle():
            pass  # the end itself handles dependents for a second
        assert self.batch(ledger, 8) == [last.id]

    def test_no_job_of_a_batch_waits_for_the_one_that_follows_the_batch(self, ledger: Ledger) -> None:
        """Directly, by way of another job, or by way of another batch: neither would ever start."""
        batch = ledger.open_batch("march", new_job())
        then = ledger.get(batch.then_id or 0)
        assert then is not None
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
