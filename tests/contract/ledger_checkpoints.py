"""What every ledger must do with what running attempts save."""

from __future__ import annotations

import pytest
from tests.contract.ledger import SHORT, LedgerSteps, new_job

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import CHECKPOINT, Claim, Failure, JobOptions, JobRequest, Saved


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
        claim = self.claim_next(ledger)
        ledger.save(None, claim.token, {CHECKPOINT: "8"})
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
