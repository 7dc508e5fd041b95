"""What every ledger must answer to the pod of one attempt of one job."""

from __future__ import annotations

import uuid

import pytest
from tests.contract.ledger import LEASE, SHORT, LedgerSteps, new_job

from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import (
    AttemptState,
    Claim,
    Failure,
    JobState,
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
