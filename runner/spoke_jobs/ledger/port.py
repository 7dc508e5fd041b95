"""The interface of a ledger. :class:`~spoke_jobs.ledger.sql_ledger.SqlLedger` is for production,
:class:`~spoke_jobs.ledger.memory_ledger.MemoryLedger` for tests without a database. Both pass one contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from spoke_jobs.model import ANY_JOB, Attempt, Claim, Failure, JobFilter, JobRequest, NewJob, Progress, Pulse


@dataclass(frozen=True, slots=True)
class NoRow:
    """There is no such job, or the job with this id has another uid."""


@dataclass(frozen=True, slots=True)
class AlreadyFinal:
    """The job has ended."""

    job: JobRequest


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """The attempt has already failed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Taken:
    """Another process holds a valid claim on the job: try again later."""

    seconds_left: float
    """Seconds until its lease lapses, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class QueueHeld:
    """Another job holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class NotThisAttempt:
    """The job is at a later attempt or run than the one asked for."""


Refusal = NoRow | AlreadyFinal | AttemptOver | Taken | QueueHeld | NotThisAttempt
"""Why a claim was not granted."""


class Ledger(Protocol):
    """The transitions of jobs. Each is one transaction, and checks the state that it starts from."""

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""

    def get(self, job_id: int) -> JobRequest | None:
        """Get the job with that id."""

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """Get the job's attempts, oldest first."""

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs, in one transaction of their own; return the rows in the order given."""

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first."""

    def claim_batch(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int = 1
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types (names, or prefixes as ``ingest.*``), by priority, then by age.

        Of the jobs that lock one queue, at most one is claimed, and none while another job holds the lock.
        """

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress."""

    def fence(self, session: Session, token: UUID) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit.

        :raises Superseded: if the token's claim is gone.
        """

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success in the session's transaction, which the caller commits. Without a session, commit at once.

        :raises Superseded: if the token's claim is gone.
        """

    def succeed_many(self, results: Mapping[UUID, Any]) -> Set[UUID]:
        """Record successes in one transaction. Return the tokens whose claims were valid. The others are superseded."""

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. Return False if the token's claim is gone.

        With ``decide``, the retry policy decides whether the job waits for another attempt or has failed for good.
        Without it, the job waits, and the operator decides.
        """

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started: the job waits as before. Return False if the claim is gone."""

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed (``WorkerLost``); return their jobs."""

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that were not started within their start timeout; return them."""

    def cancel(self, job_id: int) -> JobRequest | None:
        """Fail a waiting job; request the cancellation of a running one. Return None if there is no such job."""

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""

    def retry(self, job_id: int) -> JobRequest | None:
        """Start a failed job's next run; return None if there is no such job. A job in another state stays as it is.

        :raises UniquenessConflict: if another unfinished job has its unique key.
        """

    def prune(self, limit: int = 1000, runner: str | None = None, older_than_seconds: float | None = None) -> int:
        """Delete finished jobs (of one runner, or all), oldest first; return how many.

        Delete the jobs whose retention is over or, with ``older_than_seconds``, those that ended longer ago than that.
        """


SessionFactory = Callable[[], Session]
"""Creates sessions on the application's database."""
