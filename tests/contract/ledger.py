"""What every ledger must do. Subclass it with a fixture ``ledger``, as unit and integration tests do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import pytest

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, Ledger, NoRow, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.model import AttemptState, Claim, Failure, JobOptions, JobRequest, JobState, NewJob, Progress, Pulse

LEASE = 30.0
SHORT = 0.05
"""A lease that lapses while a test looks on."""
EAGER = RetryPolicy(backoff_seconds=0)


def new_job(**changes: object) -> NewJob:
    """A dispatch of no particular kind."""
    values: dict[str, object] = {
        "job_type": "report",
        "payload": '{"n":1}',
        "queue_name": "",
        "locks_queue": False,
        "organization_id": 3,
        "campaign_id": 12,
        "runner": "legacy",
        "assigned": False,
        "options": JobOptions(retry=EAGER),
    }
    return NewJob(**(values | changes))  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def claim_one(ledger: Ledger, runner: str, types: Sequence[str], worker: str, lease: float) -> Claim | None:
    """The first claim of a batch of one."""
    return next(iter(ledger.claim_batch(runner, types, worker, lease, 1)), None)


class LedgerContract:
    """The guarantees that workers, pods and runners build on."""

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

    def test_only_known_types_of_the_own_runner_are_claimed(self, ledger: Ledger) -> None:
        ledger.insert(new_job(job_type="newer"))
        ledger.insert(new_job(runner="kubernetes"))
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None

    def test_success_is_recorded_with_its_result(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, {"rows": 5})
        job = self.row(ledger, claim)
        assert (job.state, job.status, job.result, job.cause) == (JobState.SUCCEEDED, 100, {"rows": 5}, "")
        assert job.finished_at is not None
        (attempt,) = ledger.attempts(job.id)
        assert (attempt.state, attempt.number, attempt.worker) == (AttemptState.SUCCEEDED, 1, "w")

    def test_a_token_counts_once(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, None)
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert not ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.heartbeat(claim.token, LEASE, Progress(50, "late")) is Pulse.GONE
        assert self.row(ledger, claim).status == 100

    def test_a_stranger_s_token_counts_never(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        stranger = uuid.uuid4()
        with pytest.raises(Superseded):
            ledger.succeed(None, stranger, None)
        assert ledger.heartbeat(stranger, LEASE) is Pulse.GONE
        assert self.row(ledger, claim).state is JobState.RUNNING

    def test_heartbeats_carry_progress_and_renew(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        before = ledger.attempts(claim.job.id)[0].lease_expires_at
        assert ledger.heartbeat(claim.token, LEASE * 2, Progress(40, "row 400")) is Pulse.HELD
        job = self.row(ledger, claim)
        assert (job.status, job.result_message) == (40, "row 400")
        assert ledger.attempts(job.id)[0].lease_expires_at > before

    @pytest.mark.parametrize("message", ["a\x00b", "file \udcff.csv", "\U0001f600"])
    def test_progress_may_be_told_in_any_words(self, ledger: Ledger, message: str) -> None:
        claim = self.started(ledger)
        assert ledger.heartbeat(claim.token, LEASE, Progress(1, message)) is Pulse.HELD
        assert self.row(ledger, claim).result_message

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

    def test_budgets_count_classes_apart(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        for cause in ("JobError", "Killed", "JobError", "WorkerLost"):
            claim = self.claim_next(ledger)
            ledger.fail(claim.token, Failure(cause), decide=True)
            assert self.row(ledger, claim).state is JobState.WAITING
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("Killed"), decide=True)
        assert self.row(ledger, claim).state is JobState.FAILED

    def test_a_failure_for_good_is_final_at_once(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("InvalidPayload", for_good=True), decide=True)
        assert self.row(ledger, claim).state is JobState.FAILED

    def test_a_retry_waits_out_its_backoff(self, ledger: Ledger) -> None:
        ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(backoff_seconds=200, jitter=0))))
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        job = self.row(ledger, claim)
        assert job.run_after is not None
        assert 199 < (job.run_after - job.updated_at).total_seconds() < 201

    def test_without_decide_the_job_waits_for_whoever_decides(self, ledger: Ledger) -> None:
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
            assert eventually(lambda: len(ledger.reap("legacy")) == 1)
            again = self.claim_next(ledger)
            ledger.fail(again.token, Failure("JobError", for_good=True), decide=True)
        assert self.claim_next(ledger).job.id == second.id

    def test_a_lapsed_lease_is_reaped_and_its_owner_superseded(self, ledger: Ledger) -> None:
        claim = self.started(ledger, SHORT)
        assert eventually(lambda: len(ledger.reap("legacy")) == 1)
        job = self.row(ledger, claim)
        assert (job.state, job.cause) == (JobState.WAITING, "WorkerLost")
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert self.claim_next(ledger).number == 2

    def test_the_reaper_leaves_valid_leases_and_other_runners_alone(self, ledger: Ledger) -> None:
        self.started(ledger)
        ledger.insert(new_job(runner="kubernetes"))
        claimed = claim_one(ledger, "kubernetes", ["report"], "w", SHORT)
        assert claimed is not None
        time.sleep(SHORT * 2)  # the lease is over; nothing to wait for but time itself
        assert list(ledger.reap("legacy")) == []

    # What pods ask for: one attempt of one job.

    def test_a_pod_claims_its_attempt(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(runner="kubernetes"))
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        assert (claim.number, claim.job.state) == (1, JobState.RUNNING)

    def test_a_row_of_another_database_is_no_row(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert isinstance(ledger.claim(job.id, uuid.uuid4(), 1, 1, "pod", LEASE), NoRow)
        assert isinstance(ledger.claim(job.id + 1, job.uid, 1, 1, "pod", LEASE), NoRow)

    def test_a_second_pod_waits_for_a_valid_claim(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        self.pod_claim(ledger, job, 1)
        answer = self.pod_claim(ledger, job, 1)
        assert isinstance(answer, Taken)
        assert 0 < answer.seconds_left <= LEASE

    def test_a_second_pod_takes_a_lapsed_claim_over(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="q", locks_queue=True))
        first = self.pod_claim(ledger, job, 1, SHORT)
        second = self.pod_claim_once_lapsed(ledger, job, 1)
        assert isinstance(first, Claim)
        assert second.number == 1
        with pytest.raises(Superseded):
            ledger.succeed(None, first.token, None)
        ledger.succeed(None, second.token, "mine")
        assert self.row(ledger, second).result == "mine"
        assert len(ledger.attempts(job.id)) == 1

    def test_the_next_attempt_s_pod_ends_a_lapsed_one(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        self.pod_claim(ledger, job, 1, SHORT)
        second = self.pod_claim_once_lapsed(ledger, job, 2)
        assert second.number == 2
        first = ledger.attempts(job.id)[0]
        assert (first.state, first.cause) == (AttemptState.FAILED, "WorkerLost")

    def test_an_older_attempt_s_pod_is_refused(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert isinstance(self.pod_claim(ledger, job, 2), Claim)
        assert isinstance(self.pod_claim(ledger, job, 1), NotThisAttempt)
        assert isinstance(ledger.claim(job.id, job.uid, 2, 3, "pod", LEASE), NotThisAttempt)

    def test_a_second_pod_learns_how_the_attempt_ended(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        ledger.fail(claim.token, Failure("InvalidResult", "secret", "a.B", for_good=True), decide=False)
        answer = self.pod_claim(ledger, job, 1)
        assert answer == AttemptOver(Failure("InvalidResult", error_type="a.B", for_good=True))

    def test_a_pod_of_a_finished_job_learns_its_outcome(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        ledger.succeed(None, claim.token, None)
        answer = self.pod_claim(ledger, job, 2)
        assert isinstance(answer, AlreadyFinal)
        assert answer.job.state is JobState.SUCCEEDED

    def test_a_pod_whose_queue_is_held_is_told_so(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(queue_name="q", locks_queue=True))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.pod_claim(ledger, first, 1)
        assert isinstance(self.pod_claim(ledger, second, 1), QueueHeld)
        assert ledger.get(second.id) == second
        assert isinstance(claim, Claim)
        ledger.succeed(None, claim.token, None)
        assert isinstance(self.pod_claim(ledger, second, 1), Claim)

    # Helpers

    def started(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        ledger.insert(new_job())
        return self.claim_next(ledger, lease)

    def claim_next(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        claim = claim_one(ledger, "legacy", ["report"], "w", lease)
        assert claim is not None
        return claim

    def pod_claim(self, ledger: Ledger, job: JobRequest, number: int, lease: float = LEASE) -> object:
        return ledger.claim(job.id, job.uid, 1, number, "pod", lease)

    def pod_claim_once_lapsed(self, ledger: Ledger, job: JobRequest, number: int) -> Claim:
        answers: list[object] = []

        def claimed() -> bool:
            answers.append(self.pod_claim(ledger, job, number))
            return isinstance(answers[-1], Claim)

        assert eventually(claimed)
        claim = answers[-1]
        assert isinstance(claim, Claim)
        return claim

    def row(self, ledger: Ledger, claim: Claim) -> JobRequest:
        job = ledger.get(claim.job.id)
        assert job is not None
        return job
