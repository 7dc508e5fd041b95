"""The ledger in an SQL database: open a transaction for each statement."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, bindparam, desc, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from spoke_jobs.ledger import bulk, claims, finish, inserts, pruning, retries, transitions
from spoke_jobs.ledger.claim_cursor import ClaimCursor
from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.expressions import clock_once, constant, due, known_in_sql
from spoke_jobs.ledger.port import Refusal
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, REQUEST_COLUMNS, read_job, to_attempt, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import (
    ANY_JOB,
    Attempt,
    AttemptState,
    Claim,
    Failure,
    JobFilter,
    JobRequest,
    JobState,
    NewJob,
    Progress,
    Pulse,
)

_TRIES = 5
_UIDS_AT_ONCE = 1000
_UIDS = select(job_request.c.uid).where(job_request.c.id.in_(bindparam("ids", expanding=True)))
"""Built once: building it takes longer than running it."""


class SqlLedger:
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads; not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._cursors: dict[tuple[str, tuple[str, ...]], ClaimCursor] = {}

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""
        with self._single() if new.unique_key is None else self.engine.begin() as connection:
            return inserts.insert_job(connection, new)

    def get(self, job_id: int) -> JobRequest | None:
        """Get the job with that id."""
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
            return inserts.insert_jobs(connection, new)

    def list_jobs(self, limit: int = 100, which: JobFilter = ANY_JOB) -> Sequence[JobRequest]:
        """List the newest jobs, newest first."""
        statement = select(*REQUEST_COLUMNS).order_by(desc(job_request.c.id)).limit(limit)
        if which.states is not None:
            statement = statement.where(job_request.c.state.in_(which.states))
        if which.job_type is not None:
            statement = statement.where(known_in_sql(job_request.c.job_type, [which.job_type]))
        for column, value in (
            (job_request.c.queue_name, which.queue_name),
            (job_request.c.organization_id, which.organization_id),
            (job_request.c.campaign_id, which.campaign_id),
            (job_request.c.cause, which.cause),
        ):
            if value is not None:
                statement = statement.where(column == value)
        with self._reading() as connection:
            return [to_request(row) for row in connection.execute(statement).mappings()]

    def claim_batch(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int = 1
    ) -> Sequence[Claim]:
        """Claim up to ``limit`` due jobs of the types, by priority, then by age."""
        granted: list[Claim] = []
        lost = 0
        while (left := limit - len(granted)) > 0 and lost < _TRIES:
            more, candidates = self._search(runner, types, worker, lease_seconds, left)
            granted += more
            # The limit counted candidates that got no claim, because another one locked their queue: search again.
            if len(more) == candidates or candidates < left:
                break
            lost += not more  # other workers took all queue locks first
        return granted

    def _search(
        self, runner: str, types: Collection[str], worker: str, lease_seconds: float, limit: int
    ) -> tuple[list[Claim], int]:
        key = (runner, tuple(types))
        cursor = self._cursors.get(key, ClaimCursor())
        began = time.monotonic()
        place = cursor.begin(began)
        with self._single() as connection:
            searching = time.monotonic()  # does not include the time to connect
            found_now, candidates = bulk.claim_batch(connection, runner, types, worker, lease_seconds, limit, place)
        granted = [replace(claim, asked_at=began) for claim in found_now]
        now = time.monotonic()
        first = granted[0].job if granted else None
        found = (-first.priority, first.id) if first is not None else None
        if place is None:
            self._cursors[key] = cursor.after_head(now, now - searching, found)
        else:
            self._cursors[key] = cursor.after_place(now - searching, found)
            if found is None:
                return self._search(runner, types, worker, lease_seconds, limit)
        return granted, candidates

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with self.engine.begin() as connection:
                    return claims.claim(connection, job_id, uid, run, number, worker, lease_seconds)
            except (claims.Contended, IntegrityError):
                # Another process claimed the job between the two reads. The next try finds its claim.
                if last:
                    raise
        raise AssertionError("unreachable")

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress."""
        return self.heartbeats({token: progress}, lease_seconds)[token]

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress."""
        with self._single() as connection:
            return bulk.heartbeats(connection, progress, lease_seconds)

    def fence(self, session: Session, token: UUID) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit."""
        finish.lock_claim(session.connection(), token)

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success in the session's transaction, or in one of its own."""
        if session is not None:
            finish.succeed(session.connection(), token, result)
            return
        if token not in self.succeed_many({token: result}):
            raise transitions.superseded()

    def succeed_many(self, results: Mapping[UUID, Any]) -> Set[UUID]:
        """Record successes. Return the tokens whose claims were valid."""
        with self._single() as connection:
            return bulk.succeed_many(connection, results)

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. With ``decide``, also decide whether the job is retried."""
        with self.engine.begin() as connection:
            return finish.fail(connection, token, failure, decide=decide) is not None

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started."""
        with self.engine.begin() as connection:
            return finish.release(connection, token)

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed."""
        lapsed = (
            select(job_attempt.c.token)
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(
                job_attempt.c.state == constant(AttemptState.RUNNING),
                job_attempt.c.lease_expires_at < clock_once(),
                job_request.c.runner == runner,
            )
            .order_by(job_attempt.c.lease_expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=job_attempt)
        )
        with self.engine.begin() as connection:
            tokens = connection.scalars(lapsed).all()
            reaped = [finish.fail(connection, token, transitions.WORKER_LOST, decide=True) for token in tokens]
        return [job for job in reaped if job is not None]

    def expire_starts(self, runner: str, types: Collection[str], limit: int = 100) -> Sequence[JobRequest]:
        """Fail the jobs that were not started within their start timeout."""
        with self.engine.begin() as connection:
            return retries.expire_starts(connection, runner, types, limit)

    def cancel(self, job_id: int) -> JobRequest | None:
        """Fail a waiting job, request the cancellation of a running one."""
        with self.engine.begin() as connection:
            return retries.cancel(connection, job_id)

    def cancel_requests(self, tokens: Collection[UUID]) -> Set[UUID]:
        """Return the claims whose job's cancellation has been requested."""
        statement = (
            select(job_attempt.c.token)
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(job_attempt.c.token.in_(list(tokens)), job_request.c.cancel_requested_at.is_not(None))
        )
        with self._reading() as connection:
            return set(connection.scalars(statement))

    def retry(self, job_id: int) -> JobRequest | None:
        """Start a failed job's next run."""
        try:
            with self.engine.begin() as connection:
                return retries.retry(connection, job_id)
        except IntegrityError:
            with self._reading() as connection:
                raise retries.why_not_retried(connection, job_id) from None

    def prune(self, limit: int = 1000, runner: str | None = None, older_than_seconds: float | None = None) -> int:
        """Delete finished jobs: see :meth:`spoke_jobs.ledger.port.Ledger.prune`."""
        above = 0
        while True:
            with self.engine.begin() as connection:
                pruned = pruning.prune(connection, limit, runner, older_than_seconds, above)
            # Rows that cannot be deleted have got a later retention. A query by age finds them again, so skip them.
            if older_than_seconds is None or pruned.deleted or pruned.examined < limit:
                return pruned.deleted
            above = pruned.last

    def backlog(self, runner: str) -> dict[str, float]:
        """Count the runner's due jobs, and the seconds for which the oldest has been due."""
        due_since = func.coalesce(job_request.c.run_after, job_request.c.created_at)
        statement = select(func.count(), func.min(due_since), clock_now()).where(
            job_request.c.state == constant(JobState.WAITING),
            job_request.c.runner == runner,
            due(),
        )
        with self._reading() as connection:
            count, oldest, now = connection.execute(statement).one()
        return {"due": count, "oldest": (now - oldest).total_seconds() if oldest is not None else 0.0}

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
