"""What every ledger must answer to the pod of one attempt of one job, and do with what attempts save."""

from __future__ import annotations

import uuid

import pytest
from tests.contract.ledger import LEASE, SHORT, LedgerSteps, new_job

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import (
    CHECKPOINT,
    AttemptState,
    Claim,
    Failure,
    JobOptions,
    JobRequest,
    JobState,
    Saved,
)


class PodContract(LedgerSteps):
    """What `spoke-jobs run` depends on."""

    def test_a_pod_claims_its_attempt(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(runner="kubernetes"))
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        assert (claim.number, claim.job.state) == (1, JobState.RUNNING)

    def test_a_row_of_another_database_is_no_row(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert isinstance(ledger.claim(job.id, uuid.uuid4(), 1, 1, "pod", LEASE), NoRow)
        assert isinstance(ledger.claim(job.id + 1, job.uid, 1, 1, "pod", LEASE), NoRow)

    def test_a_pod_of_another_type_claims_nothing(self, ledger: Ledger) -> None:
        """Whoever wrote its SpokeJob gave a type that its PodTemplate allows."""
        job = ledger.insert(new_job(runner="kubernetes"))
        assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE, "other"), NoRow)
        assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE, job.job_type), Claim)

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
        first, following = ledger.attempts(job.id)
        assert (first.state, first.cause) == (AttemptState.FAILED, "WorkerLost")
        assert first.finished_at is not None
        assert following.due_at is not None
        assert following.due_at >= first.finished_at, "it has been due since then"

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


def values(saved: object) -> list[tuple[str, str, int, int]]:
    assert isinstance(saved, (list, tuple))
    return [(row.name, row.value, row.run, row.number) for row in saved if isinstance(row, Saved)]


class PodCheckpointContract(LedgerSteps):
    """What a pod depends on."""

    def pod(self, ledger: Ledger, lease: float = 30.0) -> Claim:
        claim = self.pod_claim(ledger, ledger.insert(new_job()), 1, lease)
        assert isinstance(claim, Claim)
        return claim

    def test_what_is_saved_is_read_by_later_attempts_the_newest_under_each_name(self, ledger: Ledger) -> None:
        first = self.pod(ledger)
        job = first.job
        assert ledger.saved(job.id) == []
        ledger.save(None, first.token, {"charge": '"c1"'})
        ledger.save(None, first.token, {CHECKPOINT: "1"})
        ledger.save(None, first.token, {CHECKPOINT: "2", "bill": "[]"})
        ledger.fail(first.token, Failure("JobError"), decide=False)
        second = self.pod_claim(ledger, job, 2)
        assert isinstance(second, Claim)
        ledger.save(None, second.token, {CHECKPOINT: "3"})
        saved = ledger.saved(job.id)
        assert values(saved) == [(CHECKPOINT, "3", 1, 2), ("charge", '"c1"', 1, 1), ("bill", "[]", 1, 1)]
        assert all(row.saved_at.tzinfo is not None for row in saved)
        assert ledger.saved(self.pod(ledger).job.id) == [], "they are the job's own"

    def test_who_has_lost_the_claim_saves_nothing(self, ledger: Ledger) -> None:
        first = self.pod(ledger, SHORT)
        second = self.pod_claim_once_lapsed(ledger, first.job, 1)
        with pytest.raises(Superseded):
            ledger.save(None, first.token, {CHECKPOINT: '"theirs"'})
        ledger.save(None, second.token, {CHECKPOINT: '"mine"'})
        ledger.succeed(None, second.token, None)
        with pytest.raises(Superseded):
            ledger.save(None, second.token, {CHECKPOINT: '"late"'})
        assert values(ledger.saved(first.job.id)) == [(CHECKPOINT, '"mine"', 1, 1)]


class CheckpointContract(PodCheckpointContract):
    """What retries by hand and retention do with it."""

    def failed(self, ledger: Ledger) -> JobRequest:
        ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(budget={CauseClass.ERROR: 1}), retention_seconds=0)))
        claim = self.claim_next(ledger)
        ledger.save(None, claim.token, {CHECKPOINT: "7", "charge": "1"})
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        return self.row(ledger, claim)

    def test_a_retry_by_hand_keeps_it(self, ledger: Ledger) -> None:
        job = self.failed(ledger)
        before = ledger.saved(job.id)
        ledger.retry(job.id)
        assert len(before) == 2
        assert ledger.saved(job.id) == before
        ledger.save(None, self.claim_next(ledger).token, {CHECKPOINT: "8"})
        assert values(ledger.saved(job.id))[0] == (CHECKPOINT, "8", 2, 1)

    def test_a_retry_by_hand_clears_it_if_asked_and_only_that_job_s(self, ledger: Ledger) -> None:
        job, other = self.failed(ledger), self.failed(ledger)
        ledger.retry(job.id, clear_checkpoints=True)
        assert ledger.saved(job.id) == []
        assert len(ledger.saved(other.id)) == 2

    def test_a_retry_that_does_not_happen_clears_nothing(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        claim = self.claim_next(ledger)
        ledger.save(None, claim.token, {CHECKPOINT: "7"})
        ledger.retry(claim.job.id, clear_checkpoints=True)
        assert len(ledger.saved(claim.job.id)) == 1

    def test_it_is_pruned_with_its_job(self, ledger: Ledger) -> None:
        job = self.failed(ledger)
        assert ledger.prune(older_than_seconds=-60) == 1
        assert ledger.saved(job.id) == []
