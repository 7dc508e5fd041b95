"""The ledger in an SQL database: the guarded statements, each in its transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, desc, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.ledger import claims, transitions
from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.port import Refusal
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, REQUEST_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import Attempt, AttemptState, Claim, Failure, JobRequest, NewJob, Progress

_TRIES = 5


class SqlLedger:
    """See :class:`spoke_jobs.ledger.port.Ledger`. Safe to share between threads; not across a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def insert(self, new: NewJob) -> JobRequest:
        """Write a job, in a transaction of its own."""
        with self.engine.begin() as connection:
            return transitions.insert_job(connection, new)

    def get(self, job_id: int) -> JobRequest | None:
        """The job with that id."""
        with self._reading() as connection:
            row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id)).mappings().first()
            return to_request(row) if row is not None else None

    def attempts(self, job_id: int) -> Sequence[Attempt]:
        """The job's attempts, oldest first."""
        statement = (
            select(*ATTEMPT_COLUMNS)
            .where(job_attempt.c.job_id == job_id)
            .order_by(job_attempt.c.run, job_attempt.c.number)
        )
        with self._reading() as connection:
            return [to_attempt(row) for row in connection.execute(statement).mappings()]

    def list_jobs(self, limit: int = 100) -> Sequence[JobRequest]:
        """The newest jobs, newest first."""
        statement = select(*REQUEST_COLUMNS).order_by(desc(job_request.c.id)).limit(limit)
        with self._reading() as connection:
            return [to_request(row) for row in connection.execute(statement).mappings()]

    def claim_next(self, runner: str, types: Collection[str], worker: str, lease_seconds: float) -> Claim | None:
        """Claim the oldest due job of the types whose queue isn't held."""
        with self.engine.begin() as connection:
            return claims.claim_next(connection, runner, types, worker, lease_seconds)

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
    ) -> Claim | Refusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed."""
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with self.engine.begin() as connection:
                    return claims.claim(connection, job_id, uid, run, number, worker, lease_seconds)
            except (claims.Contended, IntegrityError):
                # Another process claimed between our two looks: look again, and find its claim.
                if last:
                    raise
        raise AssertionError("unreachable")

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> bool:
        """Renew the lease and record progress; False if the token holds no claim any more."""
        with self.engine.begin() as connection:
            return transitions.heartbeat(connection, token, lease_seconds, progress)

    def fence(self, session: Session, token: UUID) -> None:
        """In the session's transaction: lock the claim, so that it holds until the commit."""
        transitions.lock_claim(session.connection(), token)

    def succeed(self, session: Session | None, token: UUID, result: Any) -> None:
        """Record success in the session's transaction, or in one of its own."""
        if session is not None:
            transitions.succeed(session.connection(), token, result)
            return
        with self.engine.begin() as connection:
            transitions.succeed(connection, token, result)

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure, and with ``decide`` what becomes of the job."""
        with self.engine.begin() as connection:
            return transitions.fail(connection, token, failure, decide=decide) is not None

    def reap(self, runner: str, limit: int = 100) -> Sequence[JobRequest]:
        """Fail the attempts whose lease has lapsed."""
        lost = Failure("WorkerLost", CAUSES["WorkerLost"].meaning)
        lapsed = (
            select(job_attempt.c.token)
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(
                job_attempt.c.state == AttemptState.RUNNING,
                job_attempt.c.lease_expires_at < clock_now(),
                job_request.c.runner == runner,
            )
            .limit(limit)
            .with_for_update(skip_locked=True, of=job_attempt)
        )
        with self.engine.begin() as connection:
            tokens = connection.scalars(lapsed).all()
            reaped = [transitions.fail(connection, token, lost, decide=True) for token in tokens]
        return [job for job in reaped if job is not None]

    def _reading(self) -> Any:
        return self.engine.connect().execution_options(**{READ_ONLY: True})
