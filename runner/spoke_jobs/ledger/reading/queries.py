"""Queries for the command line. Each runs in one read-only transaction, so that its parts are consistent.

Running jobs do not use these queries. Each reads a bounded number of rows, or uses an index of unfinished rows only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, and_, desc, func, select, tuple_

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.limit_model import Subject
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import ANY_EVENT, Event, EventFilter
from spoke_jobs.ledger.claims import limited_claims
from spoke_jobs.ledger.claims.eligibility import Due, OfRunner, QueueFree, Waiting, in_sql
from spoke_jobs.ledger.cluster.reports import reports_of
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import checkpoints
from spoke_jobs.ledger.limits.limit_rows import read_limits
from spoke_jobs.ledger.maintenance import pruning
from spoke_jobs.ledger.reading import crowd, dependency_queries
from spoke_jobs.ledger.reading.cancellers import canceller, with_cancellers
from spoke_jobs.ledger.reading.crowd import FailedCount, WaitingCount, WaitingJob, WaitingKind
from spoke_jobs.ledger.reading.dependency_queries import NOTHING, Blocking, Link
from spoke_jobs.ledger.reading.statistics import GroupedBy, Statistics, statistics
from spoke_jobs.ledger.reading.suspensions import UNKNOWN_SUSPENSION, Suspension, suspension
from spoke_jobs.ledger.reading.usage_queries import TypeUsage, usage_by_type
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, MANY_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import ANY_JOB, Attempt, AttemptReport, AttemptState, JobFilter, JobRequest, JobState, Saved

TRACES = 500
"""How many of the newest attempts are read to find workers. The ledger does not record workers elsewhere."""

NEWEST = 200
"""How many of a job's newest attempts, of their reports, and of its steps are read. Other code may write any number."""

BLOCKING = 5
"""How many of the jobs that a blocked job waits for are read."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The job that holds a queue's lock."""

    job_id: int
    job_type: str
    worker: str
    since: datetime
    lease_expires_at: datetime | None
    """None if no attempt of it runs: other code has written the lock."""
    percent: int
    """The progress that it has reported."""
    progressed_at: datetime
    """When it reported progress last, or started."""


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
    """A job, and the facts that decide when it runs. Holder, load and traces cover only jobs of the same runner."""

    now: datetime
    """The time on the database's clock, like all other times here."""
    job: JobRequest
    attempts: tuple[Attempt, ...] = ()
    """The job's newest attempts, oldest first, at most :data:`NEWEST`."""
    reports: tuple[AttemptReport, ...] = ()
    """What the cluster said about its failed attempts, oldest first, at most :data:`NEWEST`."""
    holder: Holder | None = None
    """The job that holds the lock of this job's queue, or this job; None if it needs no lock, or the lock is free."""
    limit: Wait | None = None
    """The pause, the limit or the rate that holds it back, whatever its runner."""
    ahead: int = 0
    """The number of due jobs with a free queue that come before it by priority, then by age."""
    ahead_in_queue: int = 0
    """The number of due jobs that lock the same queue and come before it."""
    behind_in_queue: int = 0
    """The number of due jobs that wait for the lock that this running job holds."""
    load: tuple[Load, ...] = ()
    """Running attempts, by worker."""
    traces: tuple[Trace, ...] = ()
    """The newest attempts, newest first, at most :data:`TRACES`."""
    blocking: Blocking = NOTHING
    """What a blocked job waits for."""
    suspension: Suspension = UNKNOWN_SUSPENSION
    """Who suspended it, and why."""
    cancelled_by: str = ""
    """Who cancelled it, or asked it to stop; empty if nobody has, or nobody knows."""
    failed_batch: Batch | None = None
    """The batch because of whose failed jobs it was not started, if that is why."""


class LimitState(NamedTuple):
    """A limit, and how many jobs of its scope run."""

    limit: JobLimit
    running: int


class SelectedJob(NamedTuple):
    """A job that a filter selects."""

    id: int
    job_type: str
    state: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """The waiting and the recently failed jobs, counted, and the facts that decide when the waiting ones run."""

    now: datetime
    period_seconds: float
    """How long ago a job may have failed."""
    waiting: tuple[WaitingCount, ...] = ()
    failed: tuple[FailedCount, ...] = ()
    holders: Mapping[int, Holder] = field(default_factory=dict)
    """The jobs that hold the queues for which others wait, by their ids."""
    load: Mapping[str, tuple[Load, ...]] = field(default_factory=dict)
    """Running attempts, by worker, by runner."""
    traces: Mapping[str, tuple[Trace, ...]] = field(default_factory=dict)
    """The newest attempts, newest first, by runner."""
    held: Mapping[WaitingKind, Wait] = field(default_factory=dict)
    """The pause, limit or rate that holds back jobs, by their kind."""


class Queries:
    """Queries on a ledger's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> datetime:
        """Get the database's time."""
        with self._reading() as connection:
            return _now(connection)

    def jobs(self, ids: Sequence[int]) -> tuple[datetime, list[JobRequest]]:
        """Get the database's time, and the jobs that exist, with small payloads, in the order of their ids."""
        statement = select(*MANY_COLUMNS).where(job_request.c.id.in_(ids)).order_by(job_request.c.id)
        with self._reading() as connection:
            found = [to_request(row) for row in connection.execute(statement).mappings()]
            return _now(connection), with_cancellers(connection, found)

    def with_cancellers(self, jobs: Sequence[JobRequest]) -> list[JobRequest]:
        """Return the jobs, with messages that name who cancelled them."""
        with self._reading() as connection:
            return with_cancellers(connection, jobs)

    def selected(self, which: JobFilter, limit: int | None = None) -> list[SelectedJob]:
        """List the jobs that a filter selects, or the newest of them, oldest first."""
        statement = (
            select(job_request.c.id, job_request.c.job_type, job_request.c.state)
            .where(*filters.conditions(which))
            .order_by(desc(job_request.c.id))
            .limit(limit)
        )
        with self._reading() as connection:
            return [SelectedJob(*row) for row in reversed(connection.execute(statement).all())]

    def statistics(self, by: GroupedBy, period_seconds: float, which: JobFilter) -> Statistics:
        """Count jobs, and measure how long they wait and take."""
        with self._reading() as connection:
            return statistics(connection, by, period_seconds, which)

    def usage_by_type(self, which: JobFilter) -> list[TypeUsage]:
        """Return what the newest successes of each type used."""
        with self._reading() as connection:
            return usage_by_type(connection, which)

    def prunable(self, older_than_seconds: float | None, which: JobFilter) -> dict[JobState, int]:
        """Count the jobs that `prune` would delete, by state."""
        statement = (
            select(job_request.c.state, func.count())
            .where(*pruning.prunable(older_than_seconds, which))
            .group_by(job_request.c.state)
        )
        with self._reading() as connection:
            return {JobState(state): count for state, count in connection.execute(statement)}

    def attempts(self, job_id: int) -> tuple[Attempt, ...]:
        """Get a job's newest attempts, oldest first, at most :data:`NEWEST`."""
        with self._reading() as connection:
            return _attempts(connection, job_id)

    def reports(self, job_id: int) -> tuple[AttemptReport, ...]:
        """Get what the cluster said about a job's newest failed attempts, oldest first, at most :data:`NEWEST`."""
        with self._reading() as connection:
            return reports_of(connection, job_id, NEWEST)

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what a job's attempts have saved: the checkpoint, and at most :data:`NEWEST` of the newest steps."""
        with self._reading() as connection:
            return checkpoints.saved(connection, job_id, NEWEST)

    def links(self, job_id: int) -> tuple[Link, ...]:
        """Get what a job depends on, directly or not."""
        with self._reading() as connection:
            return dependency_queries.links(connection, job_id)

    def events(self, limit: int | None = None, which: EventFilter = ANY_EVENT) -> list[Event]:
        """List the newest events that pass the filter, newest first."""
        with self._reading() as connection:
            return audit_events.events(connection, limit, which)

    def limits(self) -> list[LimitState]:
        """List the limits, rates and pauses, by scope."""
        with self._reading() as connection:
            limits = LimitSet(read_limits(connection))
            admission = Admission(limits, limited_claims.running_jobs(connection, limits.kinds), _now(connection))
            return [LimitState(limit, admission.running(limit)) for limit in limits.limits]

    def held(self, jobs: Sequence[JobRequest]) -> dict[int, Wait]:
        """Return the pause, limit or rate that holds back each of the waiting jobs, by the job's id."""
        waiting = [job for job in jobs if job.state is JobState.WAITING and job.executor is not Executor.CLUSTER]
        if not waiting:
            return {}
        with self._reading() as connection:
            admission = limited_claims.current_admission(connection)
            found = {job.id: admission.why_held(Subject.of(job)) for job in waiting}
        return {job_id: wait for job_id, wait in found.items() if wait is not None}

    def crowd(self, period_seconds: float, which: JobFilter = ANY_JOB, cap: int | None = None) -> Crowd:
        """Count the waiting jobs, and those that have failed for good within the period, that pass the filter.

        :param cap: the most jobs of each state that are counted.
        """
        with self._reading() as connection:
            limits = LimitSet(read_limits(connection))
            counts = crowd.waiting_counts(connection, limits, which, cap)
            held = limited_claims.current_admission(connection).why_held if limits else lambda _subject: None
            waits = {
                each.kind: held(crowd.subject_of(each.kind))
                for each in counts
                if each.kind.executor is not Executor.CLUSTER
            }
            runners = sorted({each.kind.runner for each in counts if not each.kind.later})
            return Crowd(
                _now(connection),
                period_seconds,
                counts,
                crowd.failed_counts(connection, period_seconds, which, cap),
                _holders(connection, {each.kind.holder for each in counts if each.kind.holder is not None}),
                {runner: _load(connection, runner) for runner in runners},
                {runner: _traces(connection, runner) for runner in runners},
                {kind: wait for kind, wait in waits.items() if wait is not None},
            )

    def waiting(self) -> list[WaitingJob]:
        """List all waiting jobs with what their rows say about the reason, oldest first."""
        with self._reading() as connection:
            return list(crowd.waiting_jobs(connection, LimitSet(read_limits(connection))))

    def situation(self, job_id: int) -> Situation | None:
        """Get a job's situation; None if there is no such job."""
        with self._reading() as connection:
            row = connection.execute(select(*MANY_COLUMNS).where(job_request.c.id == job_id)).mappings().first()
            if row is None:
                return None
            (job,), now = with_cancellers(connection, [to_request(row)]), _now(connection)
            attempts = _attempts(connection, job_id)
            if job.state is JobState.BLOCKED:
                found = dependency_queries.blocking(connection, job_id, BLOCKING)
                reports = reports_of(connection, job_id, NEWEST)
                return Situation(now, job, attempts, reports, blocking=found, suspension=suspension(connection, job))
            holder = _holder(connection, job.queue_name) if job.locks_queue else None
            if job.state is not JobState.WAITING:
                held = job.state is JobState.RUNNING and holder is not None
                behind = _behind_in_queue(connection, job) if held else 0
                reports = reports_of(connection, job_id, NEWEST)
                by = canceller(connection, job)
                batch = dependency_queries.failed_batch(connection, job)
                return Situation(
                    now,
                    job,
                    attempts,
                    reports,
                    holder,
                    behind_in_queue=behind,
                    suspension=suspension(connection, job),
                    cancelled_by=by,
                    failed_batch=batch,
                )
            return Situation(
                now,
                job,
                attempts,
                holder=holder,
                limit=limited_claims.current_admission(connection).why_held(Subject.of(job)),
                ahead=_ahead(connection, job),
                ahead_in_queue=_ahead_in_queue(connection, job) if job.locks_queue else 0,
                load=_load(connection, job.runner),
                traces=_traces(connection, job.runner),
                suspension=suspension(connection, job),
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        options = {READ_ONLY: True}
        if self._engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}  # type: ignore[dict-item]
        with self._engine.connect().execution_options(**options) as connection:
            yield connection


_HOLDERS = (
    select(
        queue_lock.c.job_id,
        job_request.c.job_type,
        func.coalesce(job_attempt.c.worker, ""),
        queue_lock.c.acquired_at,
        job_attempt.c.lease_expires_at,
        job_request.c.status,
        job_request.c.updated_at,
    )
    .join(job_request, job_request.c.id == queue_lock.c.job_id)
    .outerjoin(
        job_attempt,
        and_(job_attempt.c.token == queue_lock.c.token, job_attempt.c.state == constant(AttemptState.RUNNING)),
    )
)


def _now(connection: Connection) -> datetime:
    return connection.execute(select(clock_now())).scalar_one()


def _attempts(connection: Connection, job_id: int) -> tuple[Attempt, ...]:
    newest = (
        select(*ATTEMPT_COLUMNS)
        .where(job_attempt.c.job_id == job_id)
        .order_by(desc(job_attempt.c.run), desc(job_attempt.c.number))
        .limit(NEWEST)
    )
    return tuple(to_attempt(row) for row in reversed(connection.execute(newest).mappings().all()))


def _holder(connection: Connection, queue_name: str) -> Holder | None:
    row = connection.execute(_HOLDERS.where(queue_lock.c.queue_name == queue_name)).one_or_none()
    return Holder(*row) if row is not None else None


def _holders(connection: Connection, ids: Collection[int]) -> dict[int, Holder]:
    rows = connection.execute(_HOLDERS.where(queue_lock.c.job_id.in_(ids))) if ids else ()
    return {row.job_id: Holder(*row) for row in rows}


def _ahead(connection: Connection, job: JobRequest) -> int:
    before = select(func.count()).select_from(job_request).where(*_due_before(job), *in_sql(QueueFree()))
    return connection.scalar(before) or 0


def _ahead_in_queue(connection: Connection, job: JobRequest) -> int:
    same = (job_request.c.queue_name == job.queue_name, job_request.c.locks_queue)
    return connection.scalar(select(func.count()).select_from(job_request).where(*_due_before(job), *same)) or 0


def _behind_in_queue(connection: Connection, job: JobRequest) -> int:
    waits = in_sql(Waiting(), Due())
    same = (job_request.c.queue_name == job.queue_name, job_request.c.locks_queue)
    return connection.scalar(select(func.count()).select_from(job_request).where(*waits, *same)) or 0


def _due_before(job: JobRequest) -> tuple[ColumnElement[bool], ...]:
    before = tuple_(job_request.c.rank, job_request.c.id) < (-job.priority, job.id)
    return (*in_sql(Waiting(), OfRunner(job.runner), Due()), before)


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
            job_request.c.rank,
            newest.c.worker,
            newest.c.claimed_at,
            newest.c.heartbeat_at,
            newest.c.finished_at,
        )
        .join(newest, newest.c.job_id == job_request.c.id)
        .where(job_request.c.runner == runner)
        .order_by(desc(newest.c.id))
    )
    return tuple(
        Trace(*row[:4], -row.rank if isinstance(row.rank, int) else 0, *row[5:])  # in SQL, the smallest has no negative
        for row in connection.execute(statement)
    )
