"""Counts of the jobs that ended, by minute, for the dashboard. Each statement reads a bounded number of rows.

Jobs that have succeeded have no index by their end, because each index costs every write. They are therefore counted
among the newest attempts, of which each success ended its job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, desc, func, select

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.sql.expressions import clock_once, constant, minutes_between, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, JobState

MINUTES = 60
NEWEST_ATTEMPTS = 10_000
"""Among how many of the newest attempts, of all organizations, successes are counted."""
FAILED_COUNTED = 10_000
"""Among how many of the jobs that failed last, of all organizations, failures are counted."""
_SECONDS = MINUTES * 60.0


@dataclass(frozen=True, slots=True)
class EndedCounts:
    """The jobs that ended in each of the last :data:`MINUTES`, the oldest minute first."""

    succeeded: tuple[int, ...]
    failed: tuple[int, ...]
    """Those that failed for good, without the cancelled ones."""
    cancelled: tuple[int, ...]
    more: bool
    """Whether there may be more than were counted. It is known of the jobs of all organizations only."""


def ended_counts(connection: Connection, organizations: Collection[int] | None) -> EndedCounts:
    """Count the jobs that ended by minute.

    :param organizations: only jobs of these organizations; None: all jobs.
    """
    succeeded = _by_minute(connection.execute(_counted(_successes(organizations))))
    ended_otherwise = connection.execute(_counted(_failures(organizations))).all()
    failed = _by_minute((ago, number) for ago, cancelled, number in ended_otherwise if not cancelled)
    cancelled = _by_minute((ago, number) for ago, cancelled, number in ended_otherwise if cancelled)
    more = organizations is None and (sum(failed) + sum(cancelled) >= FAILED_COUNTED or _has_more_attempts(connection))
    return EndedCounts(succeeded, failed, cancelled, more)


def _counted(ended: Select[Any]) -> Select[Any]:
    """Count the jobs of each combination of values."""
    each = ended.subquery().c
    return select(*each, func.count()).group_by(*each)


def _by_minute(found: Iterable[Any]) -> tuple[int, ...]:
    """Return the numbers of each minute.

    :param found: how many minutes ago, and how many jobs.
    """
    counts = [0] * MINUTES
    for ago, number in found:
        if ago is not None:  # other code has written a time that SQLite cannot read
            counts[MINUTES - 1 - min(max(ago, 0), MINUTES - 1)] += number
    return tuple(counts)


def _successes(organizations: Collection[int] | None) -> Select[Any]:
    newest = (
        select(job_attempt.c.job_id, job_attempt.c.state, job_attempt.c.finished_at)
        .order_by(desc(job_attempt.c.id))
        .limit(number_in_text(NEWEST_ATTEMPTS))
        .subquery()
    )
    own: FromClause = newest if organizations is None else newest.join(job_request, job_request.c.id == newest.c.job_id)
    return (
        select(_minutes_ago(newest.c.finished_at))
        .select_from(own)
        .where(newest.c.state == constant(AttemptState.SUCCEEDED), _of_late(newest.c.finished_at))
        .where(*_of(organizations, job_request.c.organization_id))
    )


def _failures(organizations: Collection[int] | None) -> Select[Any]:
    newest = (
        select(job_request.c.organization_id, job_request.c.finished_at, job_request.c.cause)
        .where(job_request.c.state == constant(JobState.FAILED), _of_late(job_request.c.finished_at))
        .order_by(desc(job_request.c.finished_at))
        .limit(FAILED_COUNTED)
        .subquery()
    )
    cancelled = (newest.c.cause == constant(Cause.CANCELLED)).label("cancelled")
    return select(_minutes_ago(newest.c.finished_at), cancelled).where(*_of(organizations, newest.c.organization_id))


def _minutes_ago(finished_at: ColumnElement[Any]) -> ColumnElement[int]:
    return minutes_between(finished_at, clock_once()).label("minutes_ago")


def _of_late(finished_at: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether it was in the period. Other code may have written a time to come."""
    return and_(finished_at >= clock_once(-_SECONDS), finished_at <= clock_once())


def _of(organizations: Collection[int] | None, column: ColumnElement[Any]) -> Iterator[ColumnElement[bool]]:
    if organizations is not None:
        yield column.in_(sorted(organizations))


def _has_more_attempts(connection: Connection) -> bool:
    """Whether the oldest of the examined attempts was claimed in the period, so that earlier ones may have ended in it.

    A job of an earlier attempt that took very long may have ended in it, too. That is not examined.
    """
    oldest = (
        select(job_attempt.c.claimed_at, clock_now().label("now"))
        .order_by(desc(job_attempt.c.id))
        .offset(NEWEST_ATTEMPTS - 1)
        .limit(1)
    )
    row = connection.execute(oldest).first()
    return row is not None and row.claimed_at >= row.now - timedelta(seconds=_SECONDS)
