"""What every ledger must do with an attempt: claim it, renew its lease, record its end."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import EAGER, LEASE, SHORT, LedgerSteps, claim_next, claim_one, new_job, present
from tests.waiting import eventually

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import (
    AttemptState,
    Failure,
    JobFilter,
    JobOptions,
    JobState,
    Progress,
    Pulse,
    declared,
)


class AttemptContract(LedgerSteps):
    """What workers depend on."""

    def test_a_dispatched_job_reads_back_as_it_was_written(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="12:edit", locks_queue=True))
        assert ledger.get(job.id) == job
        assert (job.state, job.status, job.attempt, job.run, job.cause) == (JobState.WAITING, 0, 0, 1, "")
        assert (job.queue_name, job.locks_queue, job.organization_id, job.campaign_id) == ("12:edit", True, 3, 12)
        assert job.created_at.tzinfo is not None
        assert ledger.get(job.id + 1) is None

    def test_the_oldest_job_is_claimed_first_and_once(self, ledger: Ledger) -> None:
        first, second = ledger.insert(new_job()), ledger.insert(new_job())
        claims = [self.claim_next(ledger), self.claim_next(ledger)]
        assert [claim.job.id for claim in claims] == [first.id, second.id]
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        assert claims[0].job.state is JobState.RUNNING
        assert claims[0].job.assigned
        assert claims[0].token != claims[1].token

    def test_a_claim_says_since_when_its_job_was_due(self, ledger: Ledger) -> None:
        """Also of a job that was dispatched for later, whose due time the claim removes from the row."""
        now = datetime.now(UTC)
        at_once = ledger.insert(new_job(run_after=now - timedelta(hours=1)))
        assert self.claim_next(ledger).due_at == at_once.created_at
        later = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(seconds=0.2)))
        claim = self.claimed_once_due(ledger)
        assert claim.due_at == later.due_at
        assert claim.job.started_at is not None
        assert claim.job.started_at >= claim.due_at

    def test_each_attempt_has_a_due_time_of_its_own(self, ledger: Ledger) -> None:
        """The next one has that of the retry, and the first one of a later run that of the retry by hand."""
        job = ledger.insert(new_job())
        due = [job.created_at]
        ledger.fail(self.claim_next(ledger).token, Failure("JobError"), decide=True)
        for by_hand in (False, True):
            waiting = ledger.retry(job.id) if by_hand else ledger.get(job.id)
            assert waiting is not None
            assert waiting.run_after is not None
            ended_at = present(ledger.attempts(job.id)[-1].finished_at)
            assert waiting.run_after >= ended_at
            due.append(waiting.run_after)
            ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        assert [attempt.due_at for attempt in ledger.attempts(job.id)] == due

    def test_success_is_recorded_with_its_result(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, {"rows": 5})
        job = self.row(ledger, claim)
        assert (job.state, job.status, job.result, job.cause) == (JobState.SUCCEEDED, 100, {"rows": 5}, "")
        assert job.finished_at is not None
        (attempt,) = ledger.attempts(job.id)
        assert (attempt.state, attempt.number, attempt.worker) == (AttemptState.SUCCEEDED, 1, "w")

    def test_a_token_counts_once_and_an_unknown_one_never(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        stranger = uuid.uuid4()
        with pytest.raises(Superseded):
            ledger.succeed(None, stranger, None)
        assert ledger.heartbeat(stranger, LEASE) is Pulse.GONE
        assert self.row(ledger, claim).state is JobState.RUNNING
        ledger.succeed(None, claim.token, None)
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert not ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.heartbeat(claim.token, LEASE, Progress(50, "late")) is Pulse.GONE
        assert self.row(ledger, claim).status == 100

    def test_heartbeats_carry_progress_and_renew(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        before = ledger.attempts(claim.job.id)[0].lease_expires_at
        assert ledger.heartbeat(claim.token, LEASE * 2, Progress(40, "row 400")) is Pulse.HELD
        job = self.row(ledger, claim)
        assert (job.status, job.result_message) == (40, "row 400")
        assert ledger.attempts(job.id)[0].lease_expires_at > before

    @pytest.mark.parametrize(
        ("message", "kept"),
        [("a\x00b", "a\ufffdb"), ("file \udcff.csv", "file \ufffd.csv"), ("\U0001f600", "\U0001f600")],
    )
    def test_a_progress_message_may_have_any_characters(self, ledger: Ledger, message: str, kept: str) -> None:
        claim = self.started(ledger)
        assert ledger.heartbeat(claim.token, LEASE, Progress(1, message)) is Pulse.HELD
        assert self.row(ledger, claim).result_message == kept

    def test_a_failure_is_tried_again_until_its_budget_is_spent(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        for number in (1, 2, 3):
            claim = self.claim_next(ledger)
            assert claim.number == number
            assert ledger.fail(claim.token, Failure("JobError", "no", "ValueError", "tail"), decide=True)
            state = self.row(ledger, claim).state
            assert state is (JobState.WAITING if number < 3 else JobState.FAILED)
        job = self.row(ledger, claim)
        assert (job.cause, job.status, job.result_message) == ("JobError", -1, "no")
        attempts = ledger.attempts(job.id)
        assert [(a.number, a.state, a.error_type, a.output_tail) for a in attempts] == [
            (number, AttemptState.FAILED, "ValueError", "tail") for number in (1, 2, 3)
        ]

    def test_the_output_of_an_attempt_is_kept_until_it_fails(self, ledger: Ledger) -> None:
        """A process that was superseded, or whose attempt has failed, changes nothing. Nor does an older tail."""
        ledger.insert_many([new_job(), new_job()])
        one, other = self.claim_next(ledger), self.claim_next(ledger)
        ledger.keep_output(one.token, "x" * 9000 + "\n")
        ledger.keep_output(other.token, "a \x00")
        assert len(ledger.attempts(one.job.id)[0].output_tail) == 8000
        assert ledger.attempts(other.job.id)[0].output_tail == "a \ufffd"
        ledger.succeed(None, one.token, None)
        ledger.keep_output(one.token, "the end", ended=True)
        ledger.keep_output(one.token, "an older tail")
        ledger.fail(other.token, Failure("JobError", output_tail="trace"), decide=True)
        ledger.keep_output(other.token, "too late")
        ledger.keep_output(other.token, "too late", ended=True)
        assert ledger.attempts(one.job.id)[0].output_tail == "the end"
        assert ledger.attempts(other.job.id)[0].output_tail == "trace"

    def test_budgets_count_classes_apart(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        for cause in ("JobError", "Killed", "JobError", "WorkerLost"):
            claim = self.claim_next(ledger)
            ledger.fail(claim.token, Failure(cause), decide=True)
            assert self.row(ledger, claim).state is JobState.WAITING
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("Killed"), decide=True)
        assert self.row(ledger, claim).state is JobState.FAILED

    def test_finished_jobs_are_pruned_by_hand_before_their_retention_is_over(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, None)
        waiting = ledger.insert(new_job())
        assert ledger.prune(older_than_seconds=3600) == 0
        eventually(lambda: ledger.prune(older_than_seconds=0.01) == 1)
        assert ledger.get(claim.job.id) is None
        assert ledger.get(waiting.id) is not None

    def test_what_follows_a_failure_is_as_it_was_declared(self, ledger: Ledger) -> None:
        follower = declared(
            JobOptions(timeout_seconds=5, payload_version=2), queue_name="hooks", locks_queue=True, priority=7
        )
        options = JobOptions(retry=EAGER, on_failure="told", on_failure_as=follower)
        ledger.insert(new_job(options=options))
        ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        (told,) = ledger.list_jobs(which=JobFilter(job_type="told"))
        assert (told.queue_name, told.locks_queue, told.priority) == ("hooks", True, 7)
        assert (told.options.timeout_seconds, told.options.payload_version) == (5, 2)

    def test_a_retry_waits_out_its_backoff(self, ledger: Ledger) -> None:
        ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(backoff_seconds=200, jitter=0))))
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        job = self.row(ledger, claim)
        assert job.run_after is not None
        assert 199 < (job.run_after - job.updated_at).total_seconds() < 201

    def test_without_decide_the_job_waits(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("InvalidPayload", for_good=True), decide=False)
        assert self.row(ledger, claim).state is JobState.WAITING

    def test_locking_jobs_of_a_queue_exclude_one_another(self, ledger: Ledger) -> None:
        for _ in range(2):
            ledger.insert(new_job(queue_name="q", locks_queue=True))
        other = ledger.insert(new_job(queue_name="other", locks_queue=True))
        loose = ledger.insert(new_job(queue_name="q"))
        holder = self.claim_next(ledger)
        rest = [self.claim_next(ledger), self.claim_next(ledger)]
        assert {claim.job.id for claim in rest} == {other.id, loose.id}
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        ledger.succeed(None, holder.token, None)
        assert self.claim_next(ledger).job.queue_name == "q"

    @pytest.mark.parametrize("end", ["fail", "reap"])
    def test_every_end_of_an_attempt_releases_its_queue(self, ledger: Ledger, end: str) -> None:
        ledger.insert(new_job(queue_name="q", locks_queue=True))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.claim_next(ledger, SHORT)
        if end == "fail":
            ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        else:
            eventually(lambda: len(ledger.reap("legacy")) == 1)
            ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        assert self.claim_next(ledger).job.id == second.id

    def test_a_lapsed_lease_is_reaped_and_its_owner_superseded(self, ledger: Ledger) -> None:
        claim = self.started(ledger, SHORT)
        eventually(lambda: len(ledger.reap("legacy")) == 1)
        job = self.row(ledger, claim)
        assert (job.state, job.cause) == (JobState.WAITING, "WorkerLost")
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert self.claim_next(ledger).number == 2

    def test_the_reaper_leaves_valid_leases_and_other_runners_alone(self, ledger: Ledger) -> None:
        self.started(ledger)
        ledger.insert(new_job(runner="kubernetes"))
        claim_next(ledger, lease=SHORT, runner="kubernetes")
        time.sleep(SHORT * 2)  # the lease has lapsed; there is no condition to wait for
        assert list(ledger.reap("legacy")) == []

    # Released claims

    def test_a_released_claim_leaves_the_job_as_it_was(self, ledger: Ledger) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=1000)
        job = ledger.insert(new_job(queue_name="q", locks_queue=True, options=options, priority=4))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.claim_next(ledger)
        assert ledger.release(claim.token)
        again = self.row(ledger, claim)
        assert again.evolve(updated_at=job.updated_at) == job
        assert list(ledger.attempts(job.id)) == []
        assert not ledger.release(claim.token)
        assert ledger.heartbeat(claim.token, LEASE) is Pulse.GONE
        assert not ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.get(job.id) == again
        for number in (1, 2):  # the number is used again and charged to no budget
            claim = self.claim_next(ledger)
            assert (claim.job.id, claim.number) == (job.id, number)
            ledger.fail(claim.token, Failure("JobError"), decide=True)
            claim = self.claim_next(ledger)
            assert ledger.release(claim.token)
            assert self.row(ledger, claim).started_at is not None
        assert self.batch(ledger, 2) == [job.id]
        assert ledger.get(second.id) == second

    def test_a_claim_released_after_a_failed_attempt_leaves_that_attempt_alone(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="q", locks_queue=True))
        ledger.fail(self.claim_next(ledger).token, Failure("JobError"), decide=True)
        before = present(ledger.get(job.id))
        claim = self.claim_next(ledger)
        assert ledger.release(claim.token)
        after = self.row(ledger, claim)
        assert after == before.evolve(updated_at=after.updated_at, result_message="")
        assert len(ledger.attempts(job.id)) == 1
        assert self.claim_next(ledger).number == 2

    def test_a_claim_released_after_a_cancellation_ends_the_job(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.cancel(claim.job.id)
        assert ledger.release(claim.token)
        job = self.row(ledger, claim)
        assert (job.state, job.cause, job.status) == (JobState.FAILED, "Cancelled", -1)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
