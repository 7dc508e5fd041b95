"""Counts of waiting and failed jobs by what their rows say about the reason, for `why` without an id.

The database counts, because there may be a hundred thousand jobs. Each count is of jobs that have the same reason, as
far as the ledger knows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Connection,
    and_,
    case,
    cast,
    desc,
    func,
    not_,
    or_,
    select,
    text,
    union_all,
)

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import NOT_OF_WORKERS, Executor, executor_of
from spoke_jobs.contract.limit_scopes import PLAIN_DIMENSIONS, Subject
from spoke_jobs.ledger.claims.eligibility import Due, QueueFree, first_unmet
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading.first_waiting import first_of_each, may_be_more, waiting_runners
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, due_since, limited_column
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.model import ANY_JOB, AttemptState, JobFilter, JobState


@dataclass(frozen=True, slots=True)
class WaitingKind:
    """What the rows of some waiting jobs have in common."""

    subject: Subject
    """What limits know of them. It has a queue, for example, only if a limit is for this queue, or for each queue."""
    runner: str
    priority: int
    later: bool
    """Whether they are not due yet, or suspended."""
    cause: str
    """Why the last attempt failed, of jobs that are not due yet; else empty."""
    fingerprint: str
    """The fingerprint of that failure."""
    submitted: bool
    """Whether their SpokeJobs are known to exist."""
    assigned: bool
    blocked: bool
    """Whether they depend on jobs that have not ended."""
    holder: int | None
    """The job that holds the lock of their queue; None if they need none, or if it is free."""
    suspended: bool = False
    """Whether somebody has suspended them."""
    unmet: str = ""
    """The condition of claims that they do not fulfill, if they are due and wait for a worker. See
    :func:`.eligibility.first_unmet`."""

    @property
    def job_type(self) -> str:
        """Empty if it says nothing about what they wait for: if they are not due, or no worker claims them."""
        return self.subject.job_type

    @property
    def executor(self) -> Executor:
        """Who starts their attempts."""
        return executor_of(self.runner)


@dataclass(frozen=True, slots=True)
class WaitingCount:
    """The waiting jobs of one kind."""

    kind: WaitingKind
    count: int
    oldest_at: datetime
    """Since when the oldest has been due or, of jobs that are not due yet, when the first will be."""
    first_id: int
    tried_at: datetime | None = None
    """When the first attempt of one of them began; None if none has been started."""


class WaitingCounts(NamedTuple):
    """The waiting jobs, by kind."""

    counts: tuple[WaitingCount, ...]
    more: bool
    """Whether there may be more than were counted."""


@dataclass(frozen=True, slots=True)
class FailedCount:
    """The jobs that failed for good within a period, with the same cause and fingerprint."""

    cause: str
    fingerprint: str
    job_type: str
    """Their type; if there are several, the first one by name."""
    types: int
    """How many types they have."""
    count: int
    oldest_at: datetime
    newest_at: datetime
    newest_id: int
    """The job that failed last."""

    @property
    def of_one_type(self) -> bool:
        """Whether all of them have the same type."""
        return self.types == 1

    @property
    def tells_of_type(self) -> bool:
        """Whether they are enough failures of one type to ask whether any of its jobs succeeds."""
        return self.of_one_type and self.count >= _MANY_FAILURES and self.cause not in _NO_ATTEMPTS


class Share(NamedTuple):
    """The due jobs of one runner, type and organization."""

    job_type: str
    organization_id: int | None
    waiting: int
    """How many wait, with a free queue."""
    running: int


_MANY_FAILURES = 3
"""So many failures of a type without a success since need more than a retry."""
_NO_ATTEMPTS = frozenset({Cause.CANCELLED, Cause.DEPENDENCY_FAILED})
"""Causes that say nothing about the type."""
_MEMORY_OF_GROUPS = text("SELECT set_config('work_mem', '64MB', true)")
"""PostgreSQL expects a kind for nearly each job. With its default of 4 MB it sorts them on disk, for few kinds."""
_KIND = (*Subject._fields, *(field.name for field in fields(WaitingKind) if field.name != "subject"))


class WaitingJob(NamedTuple):
    """A waiting job, and its kind."""

    id: int
    uid: UUID
    kind: WaitingKind


def waiting_counts(
    connection: Connection, limits: LimitSet, which: JobFilter = ANY_JOB, cap: int | None = None
) -> WaitingCounts:
    """Count the waiting jobs that pass the filter by kind.

    :param cap: the most waiting and the most blocked jobs that are counted. See :mod:`.first_waiting`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_MEMORY_OF_GROUPS)
    runners = waiting_runners(connection) if cap is not None else ()
    jobs = _waiting(limits, which, cap, runners).subquery().c
    kind = [jobs[name] for name in _KIND]
    statement = select(*kind, func.count(), func.min(jobs.due_at), func.min(jobs.id), func.min(jobs.started_at))
    found = connection.execute(statement.group_by(*kind))
    counts = tuple(WaitingCount(_kind_of(row), *row[len(_KIND) :]) for row in found)
    if cap is None:
        return WaitingCounts(counts, more=False)
    waiting: Counter[str] = Counter()
    for each in counts:
        if not each.kind.blocked:
            waiting[each.kind.runner] += each.count
    blocked = sum(each.count for each in counts if each.kind.blocked)
    return WaitingCounts(counts, blocked >= cap or may_be_more(max(waiting.values(), default=0), runners, cap))


def waiting_jobs(connection: Connection, limits: LimitSet) -> Iterator[WaitingJob]:
    """Read all waiting jobs with their kinds, oldest first."""
    each = _waiting(limits).subquery()
    statement = select(*(each.c[name] for name in _KIND), each.c.id, each.c.uid).order_by(each.c.id)
    for row in connection.execute(statement):
        yield WaitingJob(row.id, row.uid, _kind_of(row))


def largest_shares(
    connection: Connection, runners: Collection[str], which: JobFilter = ANY_JOB, cap: int | None = None
) -> dict[str, Share]:
    """Return the type and the organization with the most due jobs of each runner, of those that pass the filter.

    :param cap: the most waiting jobs that are examined: those that :func:`waiting_counts` counts.
    """
    if not runners:
        return {}
    columns = job_request.c
    free = and_(Due().expression(), QueueFree().expression())
    waiting = select(columns.runner, columns.job_type, columns.organization_id, free.label("free")).where(
        columns.state == constant(JobState.WAITING), *filters.conditions(which)
    )
    each = (waiting if cap is None else first_of_each(waiting, waiting_runners(connection), cap)).subquery().c
    kind, number = (each.runner, each.job_type, each.organization_id), func.count()
    place = func.row_number().over(partition_by=each.runner, order_by=(desc(number), each.job_type)).label("place")
    counted = select(*kind, number.label("number"), place).where(each.free, each.runner.in_(sorted(runners)))
    largest = counted.group_by(*kind).subquery().c
    found = connection.execute(
        select(largest.runner, largest.job_type, largest.organization_id, largest.number).where(largest.place == 1)
    )
    return {
        runner: Share(job_type, organization_id, waiting, _running(connection, runner, job_type, organization_id))
        for runner, job_type, organization_id, waiting in found.all()
    }


def _running(connection: Connection, runner: str, job_type: str, organization_id: int | None) -> int:
    running = (
        select(func.count())
        .select_from(job_attempt)
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(
            job_attempt.c.state == constant(AttemptState.RUNNING),
            job_request.c.runner == runner,
            job_request.c.job_type == job_type,
            job_request.c.organization_id.is_not_distinct_from(organization_id),
        )
    )
    return connection.scalar(running) or 0


def largest_first(failed: Iterable[FailedCount]) -> list[FailedCount]:
    """Sort groups of failed jobs as they are shown."""
    return sorted(failed, key=lambda each: (-each.count, each.cause, each.fingerprint))


def failed_counts(
    connection: Connection, period_seconds: float, which: JobFilter = ANY_JOB, cap: int | None = None
) -> tuple[FailedCount, ...]:
    """Count the jobs that have failed for good within the period and pass the filter, by cause and fingerprint.

    :param cap: the most jobs that are counted, those that failed last.
    """
    failed = failed_jobs(period_seconds, which, cap)
    # A retried job keeps its id, so that the highest id may have failed before the others.
    last_first = (desc(failed.finished_at), desc(failed.id))
    jobs = select(*failed, func.row_number().over(order_by=last_first).label("place")).cte("failed").c
    kind = (jobs.cause, jobs.fingerprint)
    ends = (func.min(jobs.finished_at).label("oldest"), func.max(jobs.finished_at).label("newest"))
    number, first = func.count().label("number"), func.min(jobs.place).label("first")
    by_type = select(*kind, jobs.job_type, number, *ends, first).group_by(*kind, jobs.job_type).subquery().c
    by_reason = (
        select(
            by_type.cause,
            by_type.fingerprint,
            func.min(by_type.job_type).label("job_type"),
            func.count().label("types"),
            cast(func.sum(by_type.number), BigInteger).label("number"),
            func.min(by_type.oldest).label("oldest"),
            func.max(by_type.newest).label("newest"),
            func.min(by_type.first).label("first"),
        )
        .group_by(by_type.cause, by_type.fingerprint)
        .subquery()
        .c
    )
    *values, first_place = by_reason
    found: Any = connection.execute(select(*values, jobs.id).where(jobs.place == first_place))
    return tuple(FailedCount(*row) for row in found)


def failed_jobs(period_seconds: float, which: JobFilter, cap: int | None) -> Any:
    """Select the jobs that have failed for good within the period and pass the filter; return the columns.

    :param cap: see :func:`failed_counts`.
    """
    columns = job_request.c
    failed = select(columns.cause, columns.fingerprint, columns.job_type, columns.finished_at, columns.id).where(
        columns.state == constant(JobState.FAILED),
        columns.finished_at >= select(clock_after(-period_seconds)).scalar_subquery(),
        *filters.conditions(which),
    )
    if cap is not None:
        failed = failed.order_by(desc(columns.finished_at)).limit(cap)
    return failed.subquery().c


def _waiting(
    limits: LimitSet, which: JobFilter = ANY_JOB, cap: int | None = None, runners: Sequence[str] = ()
) -> CompoundSelect[Any]:
    """Select the waiting and the blocked jobs: their kinds, when they were due or will be, and their ids."""
    held = and_(
        job_request.c.locks_queue,
        queue_lock.c.queue_name == job_request.c.queue_name,
        queue_lock.c.job_id != job_request.c.id,
    )
    later = not_(Due().expression())
    blocked = job_request.c.state == constant(JobState.BLOCKED)
    unclaimed = or_(later, blocked, *(job_request.c.runner == constant(name) for name in NOT_OF_WORKERS))
    columns = (
        job_request.c.runner,
        case((not_(unclaimed), job_request.c.job_type), else_="").label("job_type"),
        (-cast(job_request.c.rank, BigInteger)).label("priority"),
        later.label("later"),
        case((later, job_request.c.cause), else_="").label("cause"),
        case((later, job_request.c.fingerprint), else_="").label("fingerprint"),
        job_request.c.submitted_at.is_not(None).label("submitted"),
        job_request.c.assigned,
        blocked.label("blocked"),
        queue_lock.c.job_id.label("holder"),
        *(limited_column(dimension, limits.scopes).label(dimension.field) for dimension in PLAIN_DIMENSIONS),
        job_request.c.suspended_at.is_not(None).label("suspended"),
        case((unclaimed, ""), else_=first_unmet()).label("unmet"),
        due_since().label("due_at"),
        job_request.c.started_at,
        job_request.c.id,
        job_request.c.uid,
    )
    joined = job_request.outerjoin(queue_lock, held)
    selected = select(*columns).select_from(joined).where(*filters.conditions(which))
    # Two statements, so that each uses the index of its state.
    waiting, blocked = (
        selected.where(job_request.c.state == constant(state)) for state in (JobState.WAITING, JobState.BLOCKED)
    )
    if cap is None:
        return union_all(waiting, blocked)
    return union_all(select(first_of_each(waiting, runners, cap).subquery()), select(blocked.limit(cap).subquery()))


def _kind_of(row: Any) -> WaitingKind:
    """Read the kind of a row that begins with its fields."""
    values = len(Subject._fields)
    return WaitingKind(Subject(*row[:values]), *row[values : len(_KIND)])
