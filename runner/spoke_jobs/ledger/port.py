"""The interface of a ledger. :class:`~spoke_jobs.ledger.sql_ledger.SqlLedger` is the one for production, and
:class:`~spoke_jobs.ledger.memory_ledger.MemoryLedger` serves tests without a database; both pass one contract suite.
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
    """There is no such job, or it is another database's with the same id."""


@dataclass(frozen=True, slots=True)
class AlreadyFinal:
    """The job has ended: its row is final."""

    job: JobRequest


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """The attempt ended before: it failed, and this is how."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Taken:
    """Another process holds a valid claim on the job: ask again."""

    seconds_left: float
    """Until its lease ends, unless it renews it."""


@dataclass(frozen=True, slots=True)
class QueueHeld:
    """Another job holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class NotThisAttempt:
    """The job is at a later attempt or run than the one asked for."""


Refusal = NoRow | AlreadyFinal | AttemptOver | Taken | QueueHeld | NotThisAttempt
"""Why a claim was not granted."""


class Ledger(Protocol):
    """The transitions of a job's life, each one transaction, none taken from a state that doesn't allow it."""

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""

    def get(self, job_id: int) -> JobRequest | None:
        """The job with that id."""

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """The job's attempts, oldest first."""

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs, in one transaction of their own; the rows in the order given."""

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """The newest jobs, newest first."""

    def claim_batch(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int = 1
    ) -> Sequence[Claim]:
        """Claim up to so many due jobs of the types (names, or prefixes as ``ingest.*``), by priority, then by age.

        Of a queue that its jobs lock, one at most, and none while another job holds it.
        """

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """The same for many claims at once."""

    def fence(self, session: Session, token: UUID) -> None:
        """In the session's transaction: lock the claim, so that it holds until the commit.

        :raises Superseded: if the token holds no claim any more.
        """

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success in the session's transaction, which the caller commits (None: in one of its own).

        :raises Superseded: if the token holds no claim any more.
        """

    def succeed_many(self, results: Mapping[UUID, Any]) -> Set[UUID]:
        """Record successes, in one transaction; the tokens that held their claims. The others are superseded."""

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure; False if the token holds no claim any more.

        With ``decide``, the retry policy says whether the job waits for another attempt or is final; without, it
        waits, and somebody else decides (the operator).
        """

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was never begun: the job waits as it did before. False if the claim is gone."""

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed (``WorkerLost``); the jobs as they are then."""

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """End the jobs that have waited for their first start for longer than they may; the jobs as they are then."""

    def cancel(self, job_id: int) -> JobRequest | None:
        """End a job that waits, ask for the end of one that runs; None if there is no such job."""

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Those of the claims whose job somebody has asked the end of."""

    def retry(self, job_id: int) -> JobRequest | None:
        """Start a failed job's next run; None if there is no such job. One in another state stays as it is.

        :raises UniquenessConflict: if an unfinished job has its uniqueness key by now.
        """

    def prune(self, limit: int = 1000, runner: str | None = None, older_than_seconds: float | None = None) -> int:
        """Delete finished jobs (of one runner, or all), the oldest first; how many.

        Those whose retention is over; or, with ``older_than_seconds``, those that ended so long ago.
        """


SessionFactory = Callable[[], Session]
"""Makes sessions on the application's database."""
