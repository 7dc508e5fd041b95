"""Queries for the command line. Each runs in one read-only transaction, so that its parts are consistent.

Running jobs do not use them. Each query reads a bounded number of rows, or uses an index of unfinished rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, desc, func, select, tuple_

from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.expressions import constant, due, queue_free
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, REQUEST_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import Attempt, AttemptState, JobRequest, JobState

TRACES = 500
"""How many of the newest attempts are read to find workers. The ledger does not record workers elsewhere."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The job that holds a queue's lock."""

    job_id: int
    job_type: str
    worker: str
    since: datetime
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Load:
    """The attempts running on one worker."""

    worker: str
    running: int
    lapsed: int
    """How many of them have a lapsed lease: their worker may be gone."""
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Trace:
    """An attempt, as evidence of the worker that claimed it."""

    job_id: int
    job_type: str
    queue_name: str
    locks_queue: bool
    priority: int
    worker: str
    claimed_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Situation:
    """A job, and the facts that decide when it runs. The last five fields cover only the jobs of its runner."""

    now: datetime
    """The time on the database's clock, like all other times here."""
    job: JobRequest
    attempts: tuple[Attempt, ...] = ()
    """The job's attempts, oldest first."""
    holder: Holder | None = None
    """The job that holds the lock of this job's queue; None if the lock is free, or if the job does not need it."""
    ahead: int = 0
    """The number of due jobs with a free queue that come before it by priority, then by age."""
    ahead_in_queue: int = 0
    """The number of due jobs that lock the same queue and come before it."""
    load: tuple[Load, ...] = ()
    """Running attempts, by worker."""
    traces: tuple[Trace, ...] = ()
    """The newest attempts, newest first, at most :data:`TRACES`."""


class Queries:
    """Queries on a ledger's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> datetime:
        """Get the database's time."""
        with self._reading() as connection:
            return _now(connection)

    def jobs(self, ids: Sequence[int]) -> tuple[datetime, list[JobRequest]]:
        """Get the database's time, and the jobs that exist, in the order of their ids."""
        statement = select(*REQUEST_COLUMNS).where(job_request.c.id.in_(ids)).order_by(job_request.c.id)
        with self._reading() as connection:
            return _now(connection), [to_request(row) for row in connection.execute(statement).mappings()]

    def attempts(self, job_id: int) -> tuple[Attempt, ...]:
        """Get a job's attempts, oldest first."""
        with self._reading() as connection:
            return _attempts(connection, job_id)

    def situation(self, job_id: int) -> Situation | None:
        """Get a job's situation; None if there is no such job."""
        with self._reading() as connection:
            row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id)).mappings().first()
            if row is None:
                return None
            job, now = to_request(row), _now(connection)
            attempts = _attempts(connection, job_id)
            if job.state is not JobState.WAITING:
                return Situation(now, job, attempts)
            return Situation(
                now,
                job,
                attempts,
                holder=_holder(connection, job.queue_name) if job.locks_queue else None,
                ahead=_ahead(connection, job),
                ahead_in_queue=_ahead_in_queue(connection, job) if job.locks_queue else 0,
                load=_load(connection, job.runner),
                traces=_traces(connection, job.runner),
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        options = {READ_ONLY: True}
        if self._engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}  # type: ignore[dict-item]
        with self._engine.connect().execution_options(**options) as connection:
            yield connection


def _now(connection: Connection) -> datetime:
    return connection.execute(select(clock_now())).scalar_one()


def _attempts(connection: Connection, job_id: int) -> tuple[Attempt, ...]:
    statement = (
        select(*ATTEMPT_COLUMNS).where(job_attempt.c.job_id == job_id).order_by(job_attempt.c.run, job_attempt.c.number)
    )
    return tuple(to_attempt(row) for row in connection.execute(statement).mappings())


def _holder(connection: Connection, queue_name: str) -> Holder | None:
    statement = (
        select(
            queue_lock.c.job_id,
            job_request.c.job_type,
            job_attempt.c.worker,
            queue_lock.c.acquired_at,
            job_attempt.c.lease_expires_at,
        )
        .join(job_request, job_request.c.id == queue_lock.c.job_id)
        .join(job_attempt, job_attempt.c.token == queue_lock.c.token)
        .where(queue_lock.c.queue_name == queue_name)
    )
    row = connection.execute(statement).one_or_none()
    return Holder(*row) if row is not None else None


def _ahead(connection: Connection, job: JobRequest) -> int:
    before = select(func.count()).select_from(job_request).where(*_due_before(job), queue_free())
    return connection.scalar(before) or 0


def _ahead_in_queue(connection: Connection, job: JobRequest) -> int:
    same = (job_request.c.queue_name == job.queue_name, job_request.c.locks_queue)
    return connection.scalar(select(func.count()).select_from(job_request).where(*_due_before(job), *same)) or 0


def _due_before(job: JobRequest) -> tuple[ColumnElement[bool], ...]:
    return (
        job_request.c.state == constant(JobState.WAITING),
        job_request.c.runner == job.runner,
        due(),
        tuple_(job_request.c.rank, job_request.c.id) < (-job.priority, job.id),
    )


def _load(connection: Connection, runner: str) -> tuple[Load, ...]:
    lapsed = func.count().filter(job_attempt.c.lease_expires_at < clock_now())
    statement = (
        select(job_attempt.c.worker, func.count(), lapsed, func.max(job_attempt.c.heartbeat_at))
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(job_attempt.c.state == constant(AttemptState.RUNNING), job_request.c.runner == runner)
        .group_by(job_attempt.c.worker)
        .order_by(job_attempt.c.worker)
    )
    return tuple(Load(*row) for row in connection.execute(statement))


def _traces(connection: Connection, runner: str) -> tuple[Trace, ...]:
    newest = select(job_attempt).order_by(desc(job_attempt.c.id)).limit(TRACES).subquery()
    statement = (
        select(
            job_request.c.id,
            job_request.c.job_type,
            job_request.c.queue_name,
            job_request.c.locks_queue,
            -job_request.c.rank,
            newest.c.worker,
            newest.c.claimed_at,
            newest.c.heartbeat_at,
            newest.c.finished_at,
        )
        .join(newest, newest.c.job_id == job_request.c.id)
        .where(job_request.c.runner == runner)
        .order_by(desc(newest.c.id))
    )
    return tuple(Trace(*row) for row in connection.execute(statement))
