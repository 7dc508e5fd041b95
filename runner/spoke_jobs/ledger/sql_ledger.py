"""The ledger in an SQL database: open a transaction for each statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine, bindparam, desc, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.eligibility import Due, OfRunner, Waiting, in_sql
from spoke_jobs.ledger.columns.clock import clock_now, waited_seconds
from spoke_jobs.ledger.engine import READ_ONLY, is_locked
from spoke_jobs.ledger.lifecycle import (
    checkpoints,
    dispatching,
    finish,
    held_claims,
    retries,
    start_changes,
    transitions,
)
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.maintenance import pruning, reaping, settling, start_timeouts, strays
from spoke_jobs.ledger.notify import Notifier, on_request
from spoke_jobs.ledger.port import NO_PROGRESS, NO_USAGE, ClaimRefusal
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, MANY_COLUMNS, read_job, to_attempt, to_request
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts, count_schedules
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import due_since, unsettled
from spoke_jobs.ledger.sql.lock_patience import LockPatience, has_timed_out, limit_waits
from spoke_jobs.ledger.sql_batches import SqlBatches
from spoke_jobs.ledger.tables import job_attempt, job_request
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

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.claims.claim_search import ClaimSearch

R = TypeVar("R")

_TRIES = 5
_DEADLOCK = "40P01"
_UIDS_AT_ONCE = 1000
_UIDS = select(job_request.c.uid).where(job_request.c.id.in_(bindparam("ids", expanding=True)))
"""Built once: building it takes longer than running it."""


class SqlLedger(SqlBatches):
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads; not across a fork."""

    def __init__(self, engine: Engine, *, keeps_successes: bool = True, patience: LockPatience | None = None) -> None:
        """Open a ledger.

        :param keeps_successes: whether the row of a successful job stays for its retention. Otherwise its retention is
            over at once.
        :param patience: how long what ends, cancels, retries or deletes jobs waits for rows that another transaction
            has locked (PostgreSQL). It then raises an error for which :func:`~spoke_jobs.ledger.engine.is_locked`
            holds, or leaves them for later. None: until that transaction ends.
        """
        self.engine = engine
        self._patience = patience if engine.dialect.name == "postgresql" else None
        self._keeps = keeps_successes
        self._settled_to = 0
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.limits = SqlLimits(engine)
        self.notifier = Notifier(engine)
        """Notifies workers and sync, also of jobs that the end of another one has unblocked."""
        on_request(engine, self._notify)

    @cached_property
    def _claims(self) -> ClaimSearch:
        from spoke_jobs.ledger.claims.claim_search import ClaimSearch  # slow to import; a job's pod never searches

        return ClaimSearch(self.engine, self._single, self._reading_single, self.limits)

    def _notify(self) -> None:
        self.notifier.notify()

    def close_notifier(self) -> None:
        """Send a pending notification now: the process is about to end, or to close its connections."""
        notifier, self.notifier = self.notifier, Notifier(self.engine)
        notifier.close()

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""
        one_statement = new.unique_key is None and not new.after and new.batch_id is None
        with self._single() if one_statement else self.engine.begin() as connection:
            return dispatching.dispatch_jobs(connection, [new])[0]

    def get(self, job_id: int | UUID) -> JobRequest | None:
        """Get the job with that id or uid."""
        with self._reading_single() as connection:
            return read_job(connection, job_id)

    def committed(self, jobs: Sequence[JobRequest]) -> Sequence[JobRequest]:
        """Return the jobs whose rows another connection can see: they are committed."""
        found: set[UUID] = set()
        for start in range(0, len(jobs), _UIDS_AT_ONCE):
            ids = [job.id for job in jobs[start : start + _UIDS_AT_ONCE]]
            with self._reading_single() as connection:
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
        """Write many jobs, in one transaction of their own."""
        with self.engine.begin() as connection:
            return dispatching.dispatch_jobs(connection, new)

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first, with small payloads."""
        statement = (
            select(*MANY_COLUMNS).where(*filters.conditions(which)).order_by(desc(job_request.c.id)).limit(limit)
        )
        with self._reading() as connection:
            return [to_request(row) for row in connection.execute(statement).mappings()]

    def claim_batch(
        self,
        runner: str,
        types: Collection[str],
        worker: str,
        lease_seconds: float,
        limit: int = 1,
        only: ClaimFilter = ANY_CLAIM,
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types, by priority, then by age."""
        return self._claims.claim_batch(ClaimRequest(runner, types, worker, lease_seconds, limit, only))

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float, job_type: str = ""
    ) -> Claim | ClaimRefusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with self.engine.begin() as connection:
                    return single_claim.claim(connection, job_id, uid, run, number, worker, lease_seconds, job_type)
            except (single_claim.Contended, IntegrityError):
                # Another process claimed the job between the two reads. The next try finds its claim.
                if last:
                    raise
        raise AssertionError("unreachable")

    def set_options(self, options: Mapping[UUID, JobOptions]) -> None:
        """Write the options of jobs whose rows name none."""
        with self.changing() as connection:
            for token, given in options.items():
                single_claim.set_options(connection, token, given)

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""
        with self._single() as connection:
            return held_claims.heartbeats(connection, {token: progress}, lease_seconds, wait=True)[token]

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress."""
        with self._single() as connection:
            return held_claims.heartbeats(connection, progress, lease_seconds)

    def keep_output(self, token: UUID, tail: str, *, ended: bool = False) -> None:
        """Keep the last lines that an attempt has printed."""
        with self.engine.begin() as connection:
            finish.keep_output(connection, token, tail, ended=ended)

    def fence(self, session: Session, token: UUID) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit."""
        finish.lock_claim(session.connection(), token)

    def save(self, session: Session | None, token: UUID, values: Mapping[str, str]) -> None:
        """Save a checkpoint and the results of steps, in the session's transaction or in one of its own."""
        if session is not None:
            checkpoints.save(session.connection(), token, values)
            return
        with self.engine.begin() as connection:
            checkpoints.save(connection, token, values)

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what the job's attempts have saved."""
        with self._reading_single() as connection:
            return checkpoints.saved(connection, job_id)

    def succeed(
        self,
        session: Session | None,
        token: UUID,
        result: Any,
        progress: Progress | None = None,
        usage: AttemptUsage = UNMEASURED,
    ) -> None:
        """Record success in the session's transaction, or in one of its own."""
        if session is not None:
            finish.succeed(session.connection(), token, result, progress, usage, keep=self._keeps)
            return
        last = NO_PROGRESS if progress is None else {token: progress}
        if token not in self.succeed_many({token: result}, last, {token: usage}):
            raise transitions.superseded()

    def succeed_many(
        self,
        results: Mapping[UUID, Any],
        progress: Mapping[UUID, Progress] = NO_PROGRESS,
        usage: Mapping[UUID, AttemptUsage] = NO_USAGE,
    ) -> Set[UUID]:
        """Record successes. Return the tokens whose claims were valid."""
        with self._single() as connection:
            recorded = held_claims.succeed_many(connection, results, progress, usage, keep=self._keeps)
        # The rest have lost their claims, or something depends on their end, which takes several statements.
        left = {token: result for token, result in results.items() if token not in recorded}
        if left and self.engine.dialect.name == "postgresql":
            recorded |= self._repeated(
                lambda connection: held_claims.succeed_awaited(connection, left, progress, usage, keep=self._keeps)
            )
        return recorded

    def _repeated(self, run: Callable[[Connection], R]) -> R:
        """Run a transaction. If the database ends it because of a deadlock, run it again."""
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with self.changing() as connection:
                    return run(connection)
            except OperationalError as error:
                if last or getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                    raise
        raise AssertionError("unreachable")

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. With ``decide``, also decide whether the job is retried."""
        with self.changing() as connection:
            return finish.fail(connection, token, failure, decide=decide) is not None

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started."""
        with self.changing() as connection:
            return finish.release(connection, token)

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed.

        Of other runners, only those whose lease has been over for longer than any lasts. Their processes are gone, or
        other code wrote them: they would count under limits for ever.
        """
        with self.changing() as connection:
            return reaping.reap(connection, runner, limit, others=True)

    def settle(self, limit: int = 100) -> int:
        """Go on with the dependents of jobs that have ended."""
        if not self._has_unsettled():
            return 0
        with self.changing() as connection:
            settled = settling.settle_ended(connection, limit, self._settled_to)
        self._settled_to = settled.last
        return settled.jobs

    def end_strays(self) -> int:
        """End attempts and delete queues' locks that no process owns."""
        with self.changing() as connection:
            return strays.end_strays(connection)

    def _has_unsettled(self) -> bool:
        with self._reading_single() as connection:
            return connection.scalar(select(job_request.c.id).where(unsettled()).limit(1)) is not None

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that were not started within their start timeout."""
        with self.changing() as connection:
            return start_timeouts.expire_starts(connection, runner, types, limit)

    def cancel(self, job_id: int, by: str = "") -> JobRequest | None:
        """Fail a waiting or blocked job, request the cancellation of a running one."""
        return self._repeated(lambda connection: retries.cancel(connection, job_id, by))

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""
        statement = (
            select(job_attempt.c.token)
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(job_attempt.c.token.in_(list(tokens)), job_request.c.cancel_requested_at.is_not(None))
        )
        with self._reading() as connection:
            return set(connection.scalars(statement))

    def retry(self, job_id: int, by: str = "", *, clear_checkpoints: bool = False) -> JobRequest | None:
        """Start a failed job's next run."""
        try:
            return self._repeated(
                lambda connection: retries.retry(connection, job_id, by, clear_checkpoints=clear_checkpoints)
            )
        except IntegrityError:
            with self._reading() as connection:
                raise retries.why_not_retried(connection, job_id) from None

    def run_now(self, job_id: int, by: str = "") -> JobRequest | None:
        """Make a job due now that waits for its time."""
        return self._repeated(lambda connection: start_changes.run_now(connection, job_id, by))

    def set_priority(self, job_id: int, priority: int, by: str = "") -> JobRequest | None:
        """Change the priority of a waiting or blocked job."""
        return self._repeated(lambda connection: start_changes.set_priority(connection, job_id, priority, by))

    def suspend(self, job_id: int, reason: str = "", by: str = "") -> JobRequest | None:
        """Let no attempt of a job start until it is resumed."""
        return self._repeated(lambda connection: start_changes.suspend(connection, job_id, reason, by))

    def resume(self, job_id: int, by: str = "") -> JobRequest | None:
        """Let attempts of a suspended job start again."""
        return self._repeated(lambda connection: start_changes.resume(connection, job_id, by))

    def prune(
        self, limit: int = 1000, older_than_seconds: float | None = None, which: JobFilter = ANY_JOB, *, by: str = ""
    ) -> int:
        """Delete finished jobs: see :meth:`spoke_jobs.ledger.port.Ledger.prune`.

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
        with self._reading() as connection:
            count, oldest, now = connection.execute(statement).one()
        return {"due": count, "oldest": waited_seconds(oldest, now) if oldest is not None else 0.0}

    def count_schedules(self, runner: str) -> ScheduleCounts:
        """Count the runner's schedules."""
        with self._reading() as connection:
            return count_schedules(connection, runner)

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Begin a transaction that changes jobs, with the ledger's patience."""
        if self._patience is None:
            with self.engine.begin() as connection:
                yield connection
            return
        try:
            with self.engine.begin() as connection:
                limit_waits(connection, self._patience.seconds)
                yield connection
                if has_timed_out(connection):
                    self._patience.timed_out()
        except DBAPIError as error:
            if is_locked(error):
                self._patience.timed_out()
            raise

    def _single(self) -> Any:
        """Open a connection for a single statement: without BEGIN and COMMIT, except on SQLite."""
        if self.engine.dialect.name == "postgresql":
            return self._autocommit.connect()
        return self.engine.begin()

    def _reading_single(self) -> Any:
        """Open a connection for a single query. On SQLite it takes no write lock."""
        return self._autocommit.connect() if self.engine.dialect.name == "postgresql" else self._reading()

    def _reading(self) -> Any:
        return self.engine.connect().execution_options(**{READ_ONLY: True})
