"""Counts of waiting and failed jobs by what their rows say about the reason, for `why` without an id.

The database counts, because there may be a hundred thousand jobs. Each count is of jobs that have the same reason, as
far as the ledger knows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Connection,
    Row,
    and_,
    case,
    cast,
    desc,
    func,
    not_,
    select,
    union_all,
)

from spoke_jobs.contract.executors import Executor, executor_of
from spoke_jobs.contract.limit_model import Subject
from spoke_jobs.contract.limit_scopes import PLAIN_DIMENSIONS
from spoke_jobs.ledger.claims.eligibility import Due
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, counted_column, due_since
from spoke_jobs.ledger.tables import job_request, queue_lock
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.model import ANY_JOB, JobFilter, JobState


@dataclass(frozen=True, slots=True)
class WaitingKind:
    """What the rows of some waiting jobs have in common."""

    runner: str
    job_type: str
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
    queue_name: str = ""
    """Their queue, if a limit is for queues; else empty."""
    organization_id: int | None = None
    """Their organization, if a limit is for organizations; else None."""
    limit_key: str | None = None
    """Their key, if a limit is for keys; else None."""
    suspended: bool = False
    """Whether somebody has suspended them."""

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


@dataclass(frozen=True, slots=True)
class FailedCount:
    """The jobs that failed for good within a period, with the same cause and fingerprint."""

    cause: str
    fingerprint: str
    job_types: tuple[str, ...]
    """Their types, by name."""
    count: int
    oldest_at: datetime
    newest_at: datetime
    newest_id: int
    """The job that failed last."""


def subject_of(kind: WaitingKind) -> Subject:
    """Return what limits know of the jobs of a kind."""
    return Subject(kind.job_type, kind.queue_name, kind.organization_id, kind.limit_key)


_KIND = tuple(field.name for field in fields(WaitingKind))


class WaitingJob(NamedTuple):
    """A waiting job, and its kind."""

    id: int
    uid: UUID
    kind: WaitingKind


def waiting_counts(
    connection: Connection, limits: LimitSet, which: JobFilter = ANY_JOB, cap: int | None = None
) -> tuple[WaitingCount, ...]:
    """Count the waiting jobs that pass the filter by kind.

    :param cap: the most waiting and the most blocked jobs that are counted.
    """
    each = _waiting(limits, which, cap).subquery()
    kind = [each.c[name] for name in _KIND]
    statement = select(*kind, func.count(), func.min(each.c.due_at), func.min(each.c.id), func.min(each.c.started_at))
    found = connection.execute(statement.group_by(*kind))
    return tuple(WaitingCount(_kind_of(row), *row[len(_KIND) :]) for row in found)


def waiting_jobs(connection: Connection, limits: LimitSet) -> Iterator[WaitingJob]:
    """Read all waiting jobs with their kinds, oldest first."""
    each = _waiting(limits).subquery()
    statement = select(*(each.c[name] for name in _KIND), each.c.id, each.c.uid).order_by(each.c.id)
    for row in connection.execute(statement):
        yield WaitingJob(row.id, row.uid, _kind_of(row))


def failed_counts(
    connection: Connection, period_seconds: float, which: JobFilter = ANY_JOB, cap: int | None = None
) -> tuple[FailedCount, ...]:
    """Count the jobs that have failed for good within the period and pass the filter, by cause and fingerprint.

    :param cap: the most jobs that are counted, those that failed last.
    """
    columns = job_request.c
    failed = select(columns.cause, columns.fingerprint, columns.job_type, columns.finished_at, columns.id).where(
        columns.state == constant(JobState.FAILED),
        columns.finished_at >= select(clock_after(-period_seconds)).scalar_subquery(),
        *filters.conditions(which),
    )
    if cap is not None:
        failed = failed.order_by(desc(columns.finished_at)).limit(cap)
    jobs = failed.subquery().c
    # A retried job keeps its id, so that the highest id may have failed before the others.
    last_first = (desc(jobs.finished_at), desc(jobs.id))
    last_id = func.first_value(jobs.id).over(partition_by=(jobs.cause, jobs.fingerprint), order_by=last_first)
    each = select(*jobs, last_id.label("last_id")).subquery().c
    of_one_type = (each.cause, each.fingerprint, each.job_type)
    statement = select(
        *of_one_type,
        func.count(),
        func.min(each.finished_at),
        func.max(each.finished_at),
        func.max(each.last_id),
    ).group_by(*of_one_type)
    of_one_reason: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in connection.execute(statement):
        of_one_reason.setdefault((row[0], row[1]), []).append(row)
    return tuple(_of_all_types(rows) for rows in of_one_reason.values())


def _of_all_types(rows: list[Row[Any]]) -> FailedCount:
    """Make one count of those of the types."""
    causes, fingerprints, types, counts, oldest, newest, newest_ids = zip(*rows, strict=True)
    return FailedCount(
        causes[0], fingerprints[0], tuple(sorted(types)), sum(counts), min(oldest), max(newest), max(newest_ids)
    )


def _waiting(limits: LimitSet, which: JobFilter = ANY_JOB, cap: int | None = None) -> CompoundSelect[Any]:
    """Select the waiting and the blocked jobs: their kinds, when they were due or will be, and their ids."""
    held = and_(
        job_request.c.locks_queue,
        queue_lock.c.queue_name == job_request.c.queue_name,
        queue_lock.c.job_id != job_request.c.id,
    )
    later = not_(Due().expression())
    columns = (
        job_request.c.runner,
        job_request.c.job_type,
        (-cast(job_request.c.rank, BigInteger)).label("priority"),
        later.label("later"),
        case((later, job_request.c.cause), else_="").label("cause"),
        case((later, job_request.c.fingerprint), else_="").label("fingerprint"),
        job_request.c.submitted_at.is_not(None).label("submitted"),
        job_request.c.assigned,
        (job_request.c.state == constant(JobState.BLOCKED)).label("blocked"),
        queue_lock.c.job_id.label("holder"),
        *(counted_column(dimension, limits.kinds).label(dimension.field) for dimension in PLAIN_DIMENSIONS),
        job_request.c.suspended_at.is_not(None).label("suspended"),
        due_since().label("due_at"),
        job_request.c.started_at,
        job_request.c.id,
        job_request.c.uid,
    )
    joined = job_request.outerjoin(queue_lock, held)
    selected = select(*columns).select_from(joined).where(*filters.conditions(which))
    # Two statements, so that each uses the index of its state.
    states = (JobState.WAITING, JobState.BLOCKED)
    parts = [selected.where(job_request.c.state == constant(state)) for state in states]
    return union_all(*(parts if cap is None else (select(part.limit(cap).subquery()) for part in parts)))


def _kind_of(row: Any) -> WaitingKind:
    values = [getattr(row, name) for name in _KIND]
    return WaitingKind(*values)
