"""The interface of a ledger. :class:`~spoke_jobs.ledger.sql_ledger.SqlLedger` is for production,
:class:`~spoke_jobs.ledger.memory_ledger.MemoryLedger` for tests without a database. Both pass one contract
suite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.model import (
    ANY_CLAIM,
    ANY_JOB,
    UNMEASURED,
    Attempt,
    AttemptUsage,
    Claim,
    ClaimFilter,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    NewJob,
    Progress,
    Pulse,
    Saved,
)

if TYPE_CHECKING:  # an application that imports the library needs no tables yet
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.limits_and_pauses.limit_store import LimitStore


@dataclass(frozen=True, slots=True)
class NoRow:
    """There is no such job, the job with this id has another uid, or other code has taken the job."""


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
    """Seconds until that claim's lease lapses, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class QueueHeld:
    """Another job holds the queue's lock."""


@dataclass(frozen=True, slots=True)
class NotThisAttempt:
    """The job is at a later attempt or run than the requested one."""


ClaimRefusal = NoRow | AlreadyFinal | AttemptOver | Taken | QueueHeld | NotThisAttempt
"""Why a claim was not granted."""


NO_PROGRESS: Mapping[UUID, Progress] = MappingProxyType({})
NO_USAGE: Mapping[UUID, AttemptUsage] = MappingProxyType({})


class AttemptLedger(Protocol):
    """What an attempt needs of the ledger. Each change is one transaction, and checks the state that it starts from."""

    @property
    def limits(self) -> LimitStore:
        """Return its limits, rates and pauses."""

    def get(self, job_id: int | UUID) -> JobRequest | None:
        """Get the job with that id or uid."""

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float, job_type: str = ""
    ) -> Claim | ClaimRefusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed.

        :param job_type: the type that the job must have; empty: any.
        """

    def set_options(self, options: Mapping[UUID, JobOptions]) -> None:
        """Write the options of jobs whose rows name none, by the tokens of their claims."""

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress. Wait for a transaction that has locked the claim."""

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress.

        Leave out the claims that another transaction has locked: they must not delay the others. Try these again soon.
        """

    def keep_output(self, token: UUID, tail: str, *, ended: bool = False) -> None:
        """Keep the last lines that an attempt has printed.

        :param ended: whether these are its last ones, after its success; otherwise it must be running still.
        """

    def fence(self, session: Session, token: UUID) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit.

        :raises Superseded: if the token's claim is gone.
        """

    def save(self, session: Session | None, token: UUID, values: Mapping[str, str]) -> None:
        """Save a checkpoint and the results of steps, as JSON text by name, and lock the claim like :meth:`fence`.

        Write in the session's transaction, which the caller commits. Without a session, commit at once.

        :raises Superseded: if the token's claim is gone.
        """

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what the job's attempts have saved: the checkpoint, and the steps in the order of their ends."""

    def succeed(
        self,
        session: Session | None,
        token: UUID,
        result: Any,
        progress: Progress | None = None,
        usage: AttemptUsage = UNMEASURED,
    ) -> None:
        """Record success in the session's transaction, which the caller commits. Without a session, commit at once.

        :param progress: the last progress, unless it is already recorded.
        :param usage: what the attempt used.
        :raises Superseded: if the token's claim is gone.
        """

    def succeed_many(
        self,
        results: Mapping[UUID, Any],
        progress: Mapping[UUID, Progress] = NO_PROGRESS,
        usage: Mapping[UUID, AttemptUsage] = NO_USAGE,
    ) -> Set[UUID]:
        """Record successes in one transaction. Return the tokens whose claims were valid. The others are superseded.

        :param progress: each job's last progress, unless it is already recorded.
        :param usage: what each attempt used, as far as it was measured.
        """

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. Return False if the token's claim is gone.

        With ``decide``, the retry policy decides whether the job waits for another attempt or has failed for good.
        Without it, the job waits, and the operator decides.
        """

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started. Return False if the claim is gone.

        The job waits as before, and has been due since the same time. But the claim has cleared the message of its last
        attempt's failure; the cause stays.
        """


class Ledger(AttemptLedger, Protocol):
    """The transitions of jobs."""

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """Get the job's attempts, oldest first."""

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs, in one transaction of their own; return the rows in the order given."""

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first."""

    @property
    def rest_due(self) -> float | None:
        """When to claim again, by the monotonic clock, if :meth:`claim_batch` has left due jobs unseen; else None."""

    def claim_batch(
        self,
        runner: str,
        types: Collection[str],
        worker: str,
        lease_seconds: float,
        limit: int = 1,
        only: ClaimFilter = ANY_CLAIM,
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types (names, or prefixes like ``ingest.*``), by priority, then by age.

        Of the jobs that lock one queue, at most one is claimed, and none while another job holds the lock. No claim
        exceeds a limit or a rate, or starts a job of a paused scope.
        """

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed (``WorkerLost``); return their jobs."""

    def open_batch(self, name: str, then: NewJob | None = None, on_failed: str = "fail") -> Batch:
        """Open a batch of jobs.

        :param then: the job that follows once all its jobs have ended. Until then it is blocked.
        :param on_failed: ``fail`` fails that job if one of the batch has failed; ``run`` runs it all the same.
        """

    def close_batch(self, batch_id: int) -> Batch | None:
        """Close a batch, so that it finishes once all its jobs have ended. Return None if there is none."""

    def batch(self, batch_id: int) -> Batch | None:
        """Get a batch."""

    def batches(self, limit: int = 100) -> Sequence[Batch]:
        """List the newest batches, newest first."""

    def settle(self, limit: int = 100) -> int:
        """Unblock or fail the jobs that depend on jobs that have ended, where the transaction of the end did not.

        It handles only a limited number of dependents, and that of an older release none.
        """

    def end_strays(self) -> int:
        """End attempts of jobs that do not run, leases that are too long, and queues' locks that no attempt holds.

        No process of this library leaves such rows. Return how many there were.
        """

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that were not started within their start timeout; return them."""

    def cancel(self, job_id: int, by: str = "") -> JobRequest | None:
        """Fail a waiting or blocked job; request the cancellation of a running one. Return None if there is none.

        :param by: who does so. A database keeps it in `job_event`.
        """

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""

    def retry(self, job_id: int, by: str = "", *, clear_checkpoints: bool = False) -> JobRequest | None:
        """Start a failed job's next run; return None if there is no such job. A job in another state stays as it is.

        The jobs that failed because of it are blocked again.

        :param by: who does so, likewise.
        :param clear_checkpoints: delete the job's checkpoint and the results of its steps.
        :raises DependencyNotMet: if a job that it depends on has failed.
        :raises UniquenessConflict: if another unfinished job has its unique key.
        """

    def run_now(self, job_id: int, by: str = "") -> JobRequest | None:
        """Make a job due now that waits for its time. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it does not wait for its time, or if the operator decides when it starts.
        """

    def set_priority(self, job_id: int, priority: int, by: str = "") -> JobRequest | None:
        """Change the priority of a waiting or blocked job. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it runs or has ended.
        :raises InvalidJobData: if no job can have the priority.
        """

    def suspend(self, job_id: int, reason: str = "", by: str = "") -> JobRequest | None:
        """Let no attempt of a job start until it is resumed. Return None if there is no such job.

        A running attempt goes on. The time while it is suspended counts towards no start timeout.

        :param reason: for its event, like the name.
        :param by: who does so, likewise.
        :raises ChangeRefused: if it has ended.
        :raises InvalidJobData: if the reason can't be stored.
        """

    def resume(self, job_id: int, by: str = "") -> JobRequest | None:
        """Let attempts of a suspended job start again. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it is not suspended.
        """

    def prune(self, limit: int = 1000, older_than_seconds: float | None = None, which: JobFilter = ANY_JOB) -> int:
        """Delete finished jobs that pass the filter and on which no unfinished job depends, oldest first; return how
        many.

        Delete the jobs whose retention is over or, with ``older_than_seconds``, those that ended longer ago than that.
        """


SessionFactory = Callable[[], "Session"]
"""Creates sessions on the application's database."""
