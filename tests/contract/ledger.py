"""Jobs, claims and waits for tests of a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tests.waiting import eventually

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import (
    UNMEASURED,
    AttemptUsage,
    Claim,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    NewJob,
)

T = TypeVar("T")
LEASE = 30.0
SHORT = 0.05
"""A lease that lapses during a test."""
EAGER = RetryPolicy(backoff_seconds=0)
FOR_GOOD = Failure("JobError", "no", for_good=True)


def new_job(**changes: object) -> NewJob:
    """Make a typical dispatch."""
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


def claim_one(ledger: Ledger, runner: str, types: Sequence[str], worker: str, lease: float) -> Claim | None:
    """Claim one job."""
    return next(iter(ledger.claim_batch(runner, types, worker, lease, 1)), None)


def present(value: T | None) -> T:
    """What is there, as the test expects."""
    assert value is not None
    return value


def claim_next(
    ledger: Ledger,
    types: Sequence[str] = ("report",),
    worker: str = "w",
    lease: float = LEASE,
    runner: str = "legacy",
) -> Claim:
    """Claim the next job, which is there."""
    return present(claim_one(ledger, runner, types, worker, lease))


def succeed_new(ledger: Ledger, usage: AttemptUsage = UNMEASURED, worker: str = "w", **changes: object) -> JobRequest:
    """Dispatch a job, which nothing precedes, and let its first attempt succeed."""
    job = ledger.insert(new_job(**changes))
    claim = claim_next(ledger, [job.job_type], worker, runner=job.runner)
    ledger.succeed(None, claim.token, None, None, usage)
    return job


def fail_new(ledger: Ledger, failure: Failure = FOR_GOOD, **changes: object) -> JobRequest:
    """Dispatch a job, which nothing precedes, and let its first attempt fail."""
    job = ledger.insert(new_job(**changes))
    ledger.fail(claim_next(ledger, [job.job_type], runner=job.runner).token, failure, decide=True)
    return job


class LedgerSteps:
    """Steps that the parts of the contract share."""

    def started(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        ledger.insert(new_job())
        return self.claim_next(ledger, lease)

    def claim_next(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        return claim_next(ledger, lease=lease)

    def claimed_once_due(self, ledger: Ledger) -> Claim:
        return present(eventually(lambda: claim_one(ledger, "legacy", ["report"], "w", LEASE)))

    def batch(self, ledger: Ledger, limit: int) -> list[int]:
        return [claim.job.id for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, limit)]

    def of_type(self, ledger: Ledger, name: str) -> list[JobRequest]:
        return list(ledger.list_jobs(100, JobFilter(job_type=name)))

    def pod_claim(self, ledger: Ledger, job: JobRequest, number: int, lease: float = LEASE) -> object:
        return ledger.claim(job.id, job.uid, 1, number, "pod", lease)

    def pod_claim_once_lapsed(self, ledger: Ledger, job: JobRequest, number: int) -> Claim:
        answers: list[object] = []

        def claimed() -> bool:
            answers.append(self.pod_claim(ledger, job, number))
            return isinstance(answers[-1], Claim)

        eventually(claimed)
        claim = answers[-1]
        assert isinstance(claim, Claim)
        return claim

    def row(self, ledger: Ledger, claim: Claim) -> JobRequest:
        return present(ledger.get(claim.job.id))
