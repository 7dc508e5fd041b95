"""A job's situation: the job, and the facts that decide when it runs, for `why` and `show`.

Each query examines a bounded number of rows, if its caller says so, or uses an index of unfinished rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, desc, func, or_, select, tuple_

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.wait_reasons import Wait
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
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.reading import dependency_queries
from spoke_jobs.ledger.reading.dependency_queries import NOTHING, Blocking
from spoke_jobs.ledger.reading.event_actors import (
    UNKNOWN_SUSPENSION,
    Suspension,
    canceller,
    suspension,
    with_cancellers,
)
from spoke_jobs.ledger.reading.holders import Holder, holder_of
from spoke_jobs.ledger.reading.takers import NOBODY, Takers, takers_of
from spoke_jobs.ledger.rows import ATTEMPT_COLUMNS, MANY_COLUMNS, to_attempt, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import Attempt, AttemptReport, JobRequest, JobState

NEWEST = 200
"""How many of a job's newest attempts, of their reports, and of its steps are read. Other code may write any number."""

BLOCKING = 5
"""How many of the jobs that a blocked job waits for are read."""

_OF_PRIORITY = 2_000
"""The most jobs of a waiting one's priority that are examined for a page, for the organizations that take turns with
its own."""


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


def situation_of(connection: Connection, job_id: int, cap: int | None) -> Situation | None:
    """Read a job's situation, in the caller's transaction; None if there is no such job.

    :param cap: as of :meth:`.Queries.situation`.
    """
    row = connection.execute(select(*MANY_COLUMNS).where(job_request.c.id == job_id)).mappings().first()
    if row is None:
        return None
    (job,), now = with_cancellers(connection, [to_request(row)]), read_clock(connection)
    attempts = newest_attempts(connection, job_id)
    if job.state is JobState.BLOCKED:
        found = dependency_queries.blocking(connection, job_id, BLOCKING)
        reports = reports_of(connection, job_id, NEWEST)
        return Situation(now, job, attempts, reports, blocking=found, suspension=suspension(connection, job))
    holder = holder_of(connection, job.queue_name) if job.locks_queue else None
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
    admission = current_limits.read_admission(connection)
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


def newest_attempts(connection: Connection, job_id: int, most: int = NEWEST) -> tuple[Attempt, ...]:
    """Read a job's newest attempts, oldest first."""
    newest = (
        select(*ATTEMPT_COLUMNS)
        .where(job_attempt.c.job_id == job_id)
        .order_by(desc(job_attempt.c.run), desc(job_attempt.c.number))
        .limit(most)
    )
    return tuple(to_attempt(row) for row in reversed(connection.execute(newest).mappings().all()))


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
