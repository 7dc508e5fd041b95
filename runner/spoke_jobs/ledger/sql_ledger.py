"""The ledger in an SQL database: open a transaction for each statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import bindparam, desc, func, select
from sqlalchemy.exc import IntegrityError

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.eligibility import Due, OfRunner, Waiting, in_sql
from spoke_jobs.ledger.columns.clock import clock_now, waited_seconds
from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.job_batch import ANY_BATCH, Batch, BatchFilter
from spoke_jobs.ledger.lifecycle import dispatching, finish, retries, start_changes
from spoke_jobs.ledger.maintenance import pruning, reaping, settling, start_timeouts, strays
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, MANY_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts, count_schedules
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import due_since, unsettled
from spoke_jobs.ledger.sql_attempts import SqlAttempts
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import ANY_CLAIM, ANY_JOB, Attempt, Claim, ClaimFilter, JobFilter, JobRequest, JobState, NewJob

if TYPE_CHECKING:
    from spoke_jobs.ledger.claims.claim_search import ClaimSearch

_UIDS_AT_ONCE = 1000
_UIDS = select(job_request.c.uid).where(job_request.c.id.in_(bindparam("ids", expanding=True)))
"""Built once: building it takes longer than running it."""


class SqlLedger(SqlAttempts):
    """The transitions of jobs. Safe to share between threads; not across a fork."""

    _settled_to = 0

    @cached_property
    def _claims(self) -> ClaimSearch:
        # Slow to import; a process that only dispatches never searches.
        from spoke_jobs.ledger.claims.claim_search import ClaimSearch

        return ClaimSearch(self.engine, self._single, self.reading_single, self.limits)

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""
        if new.unique_key is None and not new.after and new.batch_id is None:  # one statement
            with self._single() as connection:
                return dispatching.dispatch_jobs(connection, [new])[0]
        return self.insert_many([new])[0]

    def committed(self, jobs: Sequence[JobRequest]) -> Sequence[JobRequest]:
        """Return the jobs whose rows another connection can see: they are committed."""
        found: set[UUID] = set()
        for start in range(0, len(jobs), _UIDS_AT_ONCE):
            ids = [job.id for job in jobs[start : start + _UIDS_AT_ONCE]]
            with self.reading_single() as connection:
                found.update(connection.scalars(_UIDS, {"ids": ids}))
        return [job for job in jobs if job.uid in found]

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """Get the job's attempts, oldest first."""
        statement = (
            select(*ATTEMPT_COLUMNS)
            .where(job_attempt.c.job_id == job_id)
            .order_by(job_attempt.c.run, job_attempt.c.number)
        )
        with self._reading() as connection:
            return [to_attempt(row) for row in connection.execute(statement).mappings()]

    def insert_many(self, new: Sequence[NewJob]) -> Sequence[JobRequest]:
        """Write many jobs, in one transaction of their own; return the rows in the order given."""
        return self._repeated(lambda connection: dispatching.dispatch_jobs(connection, new), self.engine.begin)

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first, with small payloads."""
        statement = (
            select(*MANY_COLUMNS).where(*filters.conditions(which)).order_by(desc(job_request.c.id)).limit(limit)
        )
        with self._reading() as connection:
            return [to_request(row) for row in connection.execute(statement).mappings()]

    @property
    def rest_due(self) -> float | None:
        """When to claim again, by the monotonic clock, if :meth:`claim_batch` has left due jobs unseen; else None."""
        return self._claims.rest_due

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
        return self._claims.claim_batch(ClaimRequest(runner, types, worker, lease_seconds, limit, only))

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed (``WorkerLost``); return their jobs.

        Of other runners, only those whose lease has been over for longer than any lasts. Their processes are gone, or
        other code wrote them: they would count under limits for ever.
        """
        with self.changing() as connection:
            return reaping.reap(connection, runner, limit, others=True)

    def settle(self, limit: int = 100) -> int:
        """Unblock or fail the jobs that depend on jobs that have ended, where the transaction of the end did not.

        It handles only a limited number of dependents, and that of an older release none.
        """
        if not self._has_unsettled():
            return 0
        settled = self._repeated(lambda connection: settling.settle_ended(connection, limit, self._settled_to))
        self._settled_to = settled.last
        return settled.jobs

    def end_strays(self) -> int:
        """End attempts of jobs that do not run, leases that are too long, and queues' locks that no attempt holds.

        No process of this library leaves such rows. Return how many there were.
        """
        with self.changing() as connection:
            return strays.end_strays(connection)

    def _has_unsettled(self) -> bool:
        with self.reading_single() as connection:
            return connection.scalar(select(job_request.c.id).where(unsettled()).limit(1)) is not None

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that were not started within their start timeout; return them."""
        with self.changing() as connection:
            return start_timeouts.expire_starts(connection, runner, types, limit)

    def cancel(self, job_id: int, by: str = "") -> JobRequest | None:
        """Fail a waiting or blocked job; request the cancellation of a running one. Return None if there is none.

        :param by: who does so, which `job_event` keeps.
        """
        return self._repeated(lambda connection: retries.cancel(connection, job_id, by))

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""
        statement = (
            select(job_attempt.c.token)
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(job_attempt.c.token.in_(list(tokens)), job_request.c.cancel_requested_at.is_not(None))
        )
        with self.reading_single() as connection:
            return set(connection.scalars(statement))

    def retry(self, job_id: int, by: str = "", *, clear_checkpoints: bool = False) -> JobRequest | None:
        """Start a failed job's next run; return None if there is no such job. A job in another state stays as it is.

        The jobs that failed because of it are blocked again.

        :param by: who does so, likewise.
        :param clear_checkpoints: delete the job's checkpoint and the results of its steps.
        :raises DependencyNotMet: if a job that it depends on has failed.
        :raises UniquenessConflict: if another unfinished job has its unique key.
        """
        try:
            return self._repeated(
                lambda connection: retries.retry(connection, job_id, by, clear_checkpoints=clear_checkpoints)
            )
        except IntegrityError:
            with self._reading() as connection:
                raise retries.why_not_retried(connection, job_id) from None

    def run_now(self, job_id: int, by: str = "") -> JobRequest | None:
        """Make a job due now that waits for its time. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it does not wait for its time, or if the operator decides when it starts.
        """
        return self._repeated(lambda connection: start_changes.run_now(connection, job_id, by))

    def set_priority(self, job_id: int, priority: int, by: str = "") -> JobRequest | None:
        """Change the priority of a waiting or blocked job. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it runs or has ended.
        :raises InvalidJobData: if no job can have the priority.
        """
        return self._repeated(lambda connection: start_changes.set_priority(connection, job_id, priority, by))

    def suspend(self, job_id: int, reason: str = "", by: str = "") -> JobRequest | None:
        """Let no attempt of a job start until it is resumed. Return None if there is no such job.

        A running attempt goes on. The time while it is suspended counts towards no start timeout.

        :param reason: for its event, like the name.
        :param by: who does so, likewise.
        :raises ChangeRefused: if it has ended.
        :raises InvalidJobData: if the reason can't be stored.
        """
        return self._repeated(lambda connection: start_changes.suspend(connection, job_id, reason, by))

    def resume(self, job_id: int, by: str = "") -> JobRequest | None:
        """Let attempts of a suspended job start again. Return None if there is no such job.

        :param by: who does so, likewise.
        :raises ChangeRefused: if it is not suspended.
        """
        return self._repeated(lambda connection: start_changes.resume(connection, job_id, by))

    def prune(
        self, limit: int = 1000, older_than_seconds: float | None = None, which: JobFilter = ANY_JOB, *, by: str = ""
    ) -> int:
        """Delete finished jobs that pass the filter and on which no unfinished job depends, oldest first; return how
        many.

        Delete the jobs whose retention is over or, with ``older_than_seconds``, those that ended longer ago than that.

        :param by: who does so; empty for a process that does it regularly, which writes no event.
        """
        above = 0
        while True:
            with self.changing() as connection:
                pruned = pruning.prune(connection, limit, older_than_seconds, above, which)
                if by and pruned.deleted:
                    audit_events.record(connection, Action.PRUNE, by, detail=f"{pruned.deleted} jobs")
            # Rows that cannot be deleted stay, and a query by age would find them again. Continue after them.
            if older_than_seconds is None or pruned.deleted or pruned.examined < limit:
                return pruned.deleted
            above = pruned.last

    def backlog(self, runner: str) -> dict[str, float]:
        """Count the runner's due jobs, and the seconds for which the oldest has been due."""
        statement = select(func.count(), func.min(due_since()), clock_now()).where(
            *in_sql(Waiting(), OfRunner(runner), Due())
        )
        with self.reading_single() as connection:
            count, oldest, now = connection.execute(statement).one()
        return {"due": count, "oldest": waited_seconds(oldest, now) if oldest is not None else 0.0}

    def count_schedules(self, runner: str) -> ScheduleCounts:
        """Count the runner's schedules."""
        with self._reading() as connection:
            return count_schedules(connection, runner)

    def open_batch(self, name: str, then: NewJob | None = None, on_failed: str = "fail") -> Batch:
        """Open a batch of jobs.

        :param then: the job that follows once all its jobs have ended. Until then it is blocked.
        :param on_failed: ``fail`` fails that job if one of the batch has failed; ``run`` runs it all the same.
        """
        with self.engine.begin() as connection:
            return dispatching.open_batch(connection, name, then, on_failed)

    def close_batch(self, batch_id: int, by: str = "") -> Batch | None:
        """Close a batch, so that it finishes once all its jobs have ended. Return None if there is none."""
        with self.engine.begin() as connection:
            return finish.close_batch(connection, batch_id, by)

    def cancel_batch(self, batch_id: int, by: str) -> Batch | None:
        """Close a batch, and cancel the job that follows it (``retries.cancel_batch``)."""
        with self.engine.begin() as connection:
            return retries.cancel_batch(connection, batch_id, by)

    def unfinished_in_batch(self, batch_id: int) -> Sequence[tuple[int, str, JobState]]:
        """List the id, type and state of the batch's jobs that have not ended, oldest first."""
        with self._reading() as connection:
            return batch_rows.unfinished_jobs(connection, batch_id)

    def batch(self, batch_id: int) -> Batch | None:
        """Get a batch."""
        with self._reading() as connection:
            return batch_rows.find(connection, batch_id)

    def batches(self, limit: int = 100, which: BatchFilter = ANY_BATCH) -> Sequence[Batch]:
        """List the newest batches that pass the filter, newest first."""
        with self._reading() as connection:
            return batch_rows.newest(connection, limit, which)
