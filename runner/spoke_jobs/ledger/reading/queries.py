"""Queries for the command line. Each runs in one read-only transaction, so that its parts are consistent.

Running jobs do not use these queries. Each reads a bounded number of rows, or uses an index of unfinished rows only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, and_, desc, func, or_, select, tuple_

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import ANY_EVENT, Event, EventFilter
from spoke_jobs.ledger.claims import limited_claims
from spoke_jobs.ledger.claims.eligibility import (
    EXPLAINED,
    Due,
    OfRunner,
    Open,
    QueueFree,
    Unmet,
    Waiting,
    first_unmet,
    in_sql,
)
from spoke_jobs.ledger.cluster.reports import reports_of
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import checkpoints
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.maintenance import pruning
from spoke_jobs.ledger.reading import crowd, dependency_queries
from spoke_jobs.ledger.reading.cancellers import canceller, with_cancellers
from spoke_jobs.ledger.reading.crowd import FailedCount, Share, WaitingCount, WaitingJob, WaitingKind
from spoke_jobs.ledger.reading.dependency_queries import NOTHING, Blocking, Dependent, Link
from spoke_jobs.ledger.reading.failure_facts import FACTS, FailureFacts, failure_facts
from spoke_jobs.ledger.reading.statistics import GroupedBy, Statistics, statistics
from spoke_jobs.ledger.reading.suspensions import UNKNOWN_SUSPENSION, Suspension, suspension
from spoke_jobs.ledger.reading.takers import NOBODY, Takers, takers_of
from spoke_jobs.ledger.reading.usage_queries import TypeUsage, usage_by_type, usual_seconds
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, MANY_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import ANY_JOB, Attempt, AttemptReport, AttemptState, JobFilter, JobRequest, JobState, Saved

NEWEST = 200
"""How many of a job's newest attempts, of their reports, and of its steps are read. Other code may write any number."""

BLOCKING = 5
"""How many of the jobs that a blocked job waits for are read."""

FIRST_JOBS = 50
"""Of how many kinds of due jobs the first job is read."""

_OF_PRIORITY = 2_000
"""The most jobs of a waiting one's priority that are examined for a page, for the organizations that take turns with
its own."""

_USUAL = 10
"""Of how many jobs that hold a lock the usual time is read: of those for which the most jobs wait."""


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
    queue_name: str = ""
    usual_seconds: float | None = None
    """How long an attempt of its type usually takes; None if that is not known."""


class Turns(NamedTuple):
    """Who takes turns with a job's organization: those that have due jobs of the same priority."""

    organizations: int = 0
    """How many other organizations."""
    without: bool = False
    """Whether the jobs without an organization, if the job has one."""
    more: bool = False
    """Whether more jobs of its priority wait than were examined, so that there may be more organizations."""


NO_TURNS = Turns()


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
    more_pauses: tuple[Wait, ...] = ()
    """The other pauses that hold it back."""
    limited: bool = False
    """Whether a limit, a rate or a pause of the ledger applies to it, even if that does not hold it back now."""
    unmet: Unmet | None = None
    """What is said of the condition of claims that it does not fulfill, if it waits for a worker."""
    ahead: int = 0
    """The number of due jobs with a free queue, held back by no limit, that come before it: those of a higher priority
    and, of its own organization, the older ones."""
    turns: Turns = NO_TURNS
    ahead_in_queue: int = 0
    """The number of them, and of those whose queue is locked, that lock the same queue."""
    more_ahead: bool = False
    """Whether more jobs come before it than were examined, so that there may be more of both."""
    behind_in_queue: int = 0
    """The number of due jobs that wait for the lock that this running job holds."""
    more_behind: bool = False
    """Whether more jobs of its queue wait than were examined, so that there may be more."""
    takers: Takers = NOBODY
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
    takers: Mapping[str, Takers] = field(default_factory=dict)
    """What is known of the workers, by runner."""
    held: Mapping[WaitingKind, Wait] = field(default_factory=dict)
    """The pause, limit or rate that holds back jobs, by their kind."""
    more_pauses: Mapping[WaitingKind, tuple[Wait, ...]] = field(default_factory=dict)
    """The other pauses that hold back jobs, by their kind."""
    limited: Collection[WaitingKind] = frozenset()
    """The kinds of jobs to which a limit, a rate or a pause applies, even if that does not hold them back now."""
    first_jobs: Mapping[int, JobRequest] = field(default_factory=dict)
    """The first job of each kind that a worker may start now, by id; of at most :data:`FIRST_JOBS` kinds, those that
    have waited for longest."""
    shares: Mapping[str, Share] = field(default_factory=dict)
    """The type and the organization with the most jobs that a worker may start now, by runner."""
    facts: Mapping[int, FailureFacts] = field(default_factory=dict)
    """What is known of the newest failed job of each group, and of the first one that is tried again, by id."""
    more_waiting: bool = False
    """Whether there may be more waiting or blocked jobs than were counted."""


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

    def newest_attempt(self, job_id: int) -> tuple[Attempt, ...]:
        """Get a job's newest attempt alone; empty if it had none."""
        with self._reading() as connection:
            return _attempts(connection, job_id, 1)

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

    def dependents(self, job_id: int) -> tuple[Dependent, ...]:
        """Get the jobs that depend on a job directly, or some of them if there are many."""
        with self._reading() as connection:
            return dependency_queries.dependents(connection, job_id)

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

    def crowd(
        self, period_seconds: float, which: JobFilter = ANY_JOB, cap: int | None = None, most: int = FACTS
    ) -> Crowd:
        """Count the waiting jobs, and those that have failed for good within the period, that pass the filter.

        :param cap: the most jobs of each state that are counted.
        :param most: of how many groups of failed jobs more is read than their counts: of the largest ones.
        """
        with self._reading() as connection:
            limits = LimitSet(read_limits(connection))
            counts, more = crowd.waiting_counts(connection, limits, which, cap)
            admission = (
                limited_claims.current_admission(connection) if limits else Admission(limits, {}, _now(connection))
            )
            subjects = {each.kind: each.kind.subject for each in counts if each.kind.executor is not Executor.CLUSTER}
            by_subject = {subject: admission.why_held(subject) for subject in set(subjects.values())}
            waits = {kind: wait for kind, subject in subjects.items() if (wait := by_subject[subject]) is not None}
            of_workers = [each.kind for each in counts if each.kind.executor is Executor.WORKERS]
            runners = sorted({kind.runner for kind in of_workers if not kind.later and not kind.blocked})
            free = [each for each in counts if _may_start(each.kind) and each.kind not in waits]
            free = sorted(free, key=lambda each: (each.oldest_at, each.first_id))[:FIRST_JOBS]
            types = {runner: {each.kind.job_type for each in free if each.kind.runner == runner} for runner in runners}
            failed = crowd.failed_counts(connection, period_seconds, which, cap)
            return Crowd(
                _now(connection),
                period_seconds,
                counts,
                failed,
                _holders(connection, _numbers_behind(counts)),
                {runner: takers_of(connection, runner, types[runner]) for runner in runners},
                waits,
                {kind: others for kind in waits if (others := tuple(admission.pauses(subjects[kind]))[1:])},
                {each.kind for each in free if any(limits.of(each.kind.subject))},
                _small_jobs(connection, [each.first_id for each in free]),
                crowd.largest_shares(connection, [runner for runner, found in types.items() if found], which, cap),
                failure_facts(connection, which, failed, counts, most),
                more,
            )

    def waiting(self) -> list[WaitingJob]:
        """List all waiting jobs with what their rows say about the reason, oldest first."""
        with self._reading() as connection:
            return list(crowd.waiting_jobs(connection, LimitSet(read_limits(connection))))

    def situation(self, job_id: int, cap: int | None = None) -> Situation | None:
        """Get a job's situation; None if there is no such job.

        :param cap: the most jobs before a waiting one that are examined, and the most that wait for the lock of a
            running one. Of a waiting one's priority, at most :data:`_OF_PRIORITY`.
        """
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
                behind, more_behind = _behind_in_queue(connection, job, cap) if held else (0, False)
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
                    more_behind=more_behind,
                    suspension=suspension(connection, job),
                    cancelled_by=by,
                    failed_batch=batch,
                )
            admission = limited_claims.current_admission(connection)
            is_open = Open(admission.closed()).expression()
            ahead, ahead_in_queue, examined = _ahead(connection, job, is_open, cap)
            return Situation(
                now,
                job,
                attempts,
                holder=holder,
                limit=admission.why_held(Subject.of(job)),
                more_pauses=tuple(admission.pauses(Subject.of(job)))[1:],
                limited=admission.limits_any(Subject.of(job)),
                unmet=_unmet(connection, job),
                ahead=ahead,
                turns=_turns(connection, job, is_open, None if cap is None else min(cap, _OF_PRIORITY)),
                ahead_in_queue=ahead_in_queue if job.locks_queue else 0,
                more_ahead=cap is not None and examined >= cap,
                takers=takers_of(connection, job.runner, {job.job_type}),
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
        queue_lock.c.queue_name,
    )
    .join(job_request, job_request.c.id == queue_lock.c.job_id)
    .outerjoin(
        job_attempt,
        and_(job_attempt.c.token == queue_lock.c.token, job_attempt.c.state == constant(AttemptState.RUNNING)),
    )
)


def _now(connection: Connection) -> datetime:
    return connection.execute(select(clock_now())).scalar_one()


def _attempts(connection: Connection, job_id: int, most: int = NEWEST) -> tuple[Attempt, ...]:
    newest = (
        select(*ATTEMPT_COLUMNS)
        .where(job_attempt.c.job_id == job_id)
        .order_by(desc(job_attempt.c.run), desc(job_attempt.c.number))
        .limit(most)
    )
    return tuple(to_attempt(row) for row in reversed(connection.execute(newest).mappings().all()))


def _holder(connection: Connection, queue_name: str) -> Holder | None:
    row = connection.execute(_HOLDERS.where(queue_lock.c.queue_name == queue_name)).one_or_none()
    return _with_usual(connection, [Holder(*row)])[0] if row is not None else None


def _holders(connection: Connection, numbers: Mapping[int, int]) -> dict[int, Holder]:
    """Read the jobs that hold locks.

    :param numbers: how many jobs wait for each of them, by id.
    """
    rows = connection.execute(_HOLDERS.where(queue_lock.c.job_id.in_(numbers))) if numbers else ()
    found = {row.job_id: Holder(*row) for row in rows}
    first = sorted(found.values(), key=lambda holder: -numbers[holder.job_id])[:_USUAL]
    return found | {holder.job_id: holder for holder in _with_usual(connection, first)}


def _with_usual(connection: Connection, holders: Sequence[Holder]) -> list[Holder]:
    usual = usual_seconds(connection, {holder.job_type for holder in holders})
    return [replace(holder, usual_seconds=usual.get(holder.job_type)) for holder in holders]


def _unmet(connection: Connection, job: JobRequest) -> Unmet | None:
    if job.executor is not Executor.WORKERS:
        return None
    return EXPLAINED.get(connection.scalar(select(first_unmet()).where(job_request.c.id == job.id)) or "")


class _Ahead(NamedTuple):
    """The due jobs that start before a waiting one in any case."""

    with_free_queue: int
    of_its_queue: int
    """Those that lock its queue."""
    examined: int
    """These, and the older ones of the same priority that other organizations have."""


def _ahead(connection: Connection, job: JobRequest, is_open: ColumnElement[bool], cap: int | None) -> _Ahead:
    """Count the jobs before a waiting one, or those among as many that are claimed first.

    :param is_open: that no pause, limit or rate holds a job back. One that is held back lets those behind it pass.
    """
    same_queue = and_(job_request.c.queue_name == job.queue_name, job_request.c.locks_queue)
    sure = or_(  # Organizations take turns.
        job_request.c.rank < -job.priority, job_request.c.organization_id.is_not_distinct_from(job.organization_id)
    )
    first = and_(sure, is_open)
    before = (
        select(and_(first, QueueFree().expression()).label("free"), and_(first, same_queue).label("same_queue"))
        .where(*_due_before(job))
        .order_by(job_request.c.rank, job_request.c.id)
        .limit(cap)
        .subquery()
        .c
    )
    counts = (func.count().filter(before.free), func.count().filter(before.same_queue), func.count())
    return _Ahead(*connection.execute(select(*counts).select_from(before.free.table)).one())


def _behind_in_queue(connection: Connection, job: JobRequest, cap: int | None) -> tuple[int, bool]:
    """Count the due jobs that lock the queue of a job, and say whether more wait than were examined."""
    same = (job_request.c.queue_name == job.queue_name, job_request.c.locks_queue)
    each = select(Due().expression().label("due")).where(*in_sql(Waiting()), *same).limit(cap).subquery().c
    due, examined = connection.execute(
        select(func.count().filter(each.due), func.count()).select_from(each.due.table)
    ).one()
    return due, cap is not None and examined >= cap


def _due_before(job: JobRequest) -> tuple[ColumnElement[bool], ...]:
    before = tuple_(job_request.c.rank, job_request.c.id) < (-job.priority, job.id)
    return (*in_sql(Waiting(), OfRunner(job.runner), Due()), before)


def _turns(connection: Connection, job: JobRequest, is_open: ColumnElement[bool], cap: int | None) -> Turns:
    other = job_request.c.organization_id
    free = and_(Due().expression(), QueueFree().expression(), is_open)
    takes = and_(free, other.is_distinct_from(job.organization_id))
    # A range of one value, and not an equality: so only the index of waiting jobs has the order.
    order, value = (job_request.c.runner, job_request.c.rank), (job.runner, -job.priority)
    each = (
        select(other.label("other"), takes.label("takes"))
        .where(*in_sql(Waiting()), tuple_(*order) >= value, tuple_(*order) <= value)
        .order_by(*order, job_request.c.id)
        .limit(cap)
        .subquery()
        .c
    )
    counts = (
        func.count(each.other.distinct()).filter(each.takes),
        func.count().filter(each.takes, each.other.is_(None)),
        func.count(),
    )
    organizations, without, examined = connection.execute(select(*counts).select_from(each.takes.table)).one()
    return Turns(organizations, without > 0, cap is not None and examined >= cap)


def _may_start(kind: WaitingKind) -> bool:
    """Whether a worker may start the jobs of a kind now, as far as their rows say."""
    waits = kind.later or kind.blocked or kind.holder is not None or kind.unmet
    return not waits and kind.executor is Executor.WORKERS


def _numbers_behind(counts: Iterable[WaitingCount]) -> Mapping[int, int]:
    """Return how many of the jobs wait for each job that holds a lock, by its id."""
    numbers: Counter[int] = Counter()
    for each in counts:
        if each.kind.holder is not None:
            numbers[each.kind.holder] += each.count
    return numbers


def _small_jobs(connection: Connection, ids: Sequence[int]) -> dict[int, JobRequest]:
    if not ids:
        return {}
    rows = connection.execute(select(*MANY_COLUMNS).where(job_request.c.id.in_(ids))).mappings()
    return {row["id"]: to_request(row) for row in rows}
