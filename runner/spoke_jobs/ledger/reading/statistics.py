"""Counts and durations of jobs by type, state, queue, organization, cause or lane, for `stats`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any

from sqlalchemy import Connection, desc, func, select

from spoke_jobs.ledger.claims.eligibility import Due, Waiting, in_sql
from spoke_jobs.ledger.columns.clock import clock_after, read_clock
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, due_of_first, due_since
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import ANY_JOB, AttemptState, JobFilter, JobState

MEASURED = 10_000
"""The most finished jobs, the newest, whose durations are read."""


class GroupedBy(StrEnum):
    """What `stats` groups jobs by."""

    TYPE = "type"
    STATE = "state"
    QUEUE = "queue"
    ORGANIZATION = "organization"
    CAUSE = "cause"
    LANE = "lane"


_COLUMNS = {
    GroupedBy.TYPE: job_request.c.job_type,
    GroupedBy.STATE: job_request.c.state,
    GroupedBy.QUEUE: job_request.c.queue_name,
    GroupedBy.ORGANIZATION: job_request.c.organization_id,
    GroupedBy.CAUSE: job_request.c.cause,
    GroupedBy.LANE: filters.lane(),
}


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return a percentile by nearest rank.

    :param ordered: the values in ascending order, at least one.
    """
    return ordered[max(ceil(len(ordered) * part) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles of durations, in seconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations | None:
        """Return the percentiles by nearest rank; None without a duration."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        return cls(*(percentile(ordered, part) for part in (0.5, 0.95)))


@dataclass(frozen=True, slots=True)
class StatisticsGroup:
    """The jobs that have one type, state, queue, organization, cause or lane."""

    name: str
    """Empty for jobs without one."""
    waiting: int = 0
    oldest_due_at: datetime | None = None
    """Since when the oldest waiting job has been due; None if no job is due."""
    running: int = 0
    succeeded: int = 0
    """Jobs that succeeded in the period."""
    failed: int = 0
    """Jobs that failed in the period."""
    wait: Durations | None = None
    """From the time when a job was due to its first start in its newest run, for jobs that ended in the period."""
    took: Durations | None = None
    """From that start to the end, for the same jobs."""
    blocked: int = 0
    oldest_blocked_at: datetime | None = None
    """When the oldest blocked job was dispatched; None if no job is blocked."""

    @property
    def ended(self) -> int:
        """The jobs that ended in the period."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class Statistics:
    """Groups of jobs, the largest first, and all jobs together."""

    now: datetime
    period_seconds: float
    groups: tuple[StatisticsGroup, ...]
    total: StatisticsGroup


@dataclass(slots=True)
class _Counts:
    waiting: int = 0
    oldest_due_at: datetime | None = None
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    blocked: int = 0
    oldest_blocked_at: datetime | None = None

    def group(self, name: str) -> StatisticsGroup:
        return StatisticsGroup(
            name,
            self.waiting,
            self.oldest_due_at,
            self.running,
            self.succeeded,
            self.failed,
            Durations.of(self.waits),
            Durations.of(self.durations),
            self.blocked,
            self.oldest_blocked_at,
        )


def statistics(connection: Connection, by: GroupedBy, period_seconds: float, which: JobFilter = ANY_JOB) -> Statistics:
    """Count the unfinished jobs, and those that ended within the period, that pass the filter.

    Finished jobs have no index by their end, so this reads the whole table.
    """
    column = _COLUMNS[by]
    counts: defaultdict[str, _Counts] = defaultdict(_Counts)
    only = tuple(filters.conditions(which))
    waiting = (
        select(column, func.count(), func.min(due_since()).filter(Due().expression()))
        .where(*in_sql(Waiting()), *only)
        .group_by(column)
    )
    for name, number, oldest in connection.execute(waiting):
        group = counts[_text(name)]
        group.waiting, group.oldest_due_at = number, oldest
    blocked = (
        select(column, func.count(), func.min(job_request.c.created_at))
        .where(job_request.c.state == constant(JobState.BLOCKED), *only)
        .group_by(column)
    )
    for name, number, oldest in connection.execute(blocked):
        group = counts[_text(name)]
        group.blocked, group.oldest_blocked_at = number, oldest
    running = (
        select(column, func.count())
        .join(job_attempt, job_attempt.c.job_id == job_request.c.id)
        .where(job_attempt.c.state == constant(AttemptState.RUNNING), *only)
        .group_by(column)
    )
    for name, number in connection.execute(running):
        counts[_text(name)].running = number
    final = (
        job_request.c.state.in_([constant(JobState.SUCCEEDED), constant(JobState.FAILED)]),
        job_request.c.finished_at >= clock_after(-period_seconds),
        *only,
    )
    ended = select(column, job_request.c.state, func.count()).where(*final).group_by(column, job_request.c.state)
    for name, state, number in connection.execute(ended):
        if state == JobState.SUCCEEDED:
            counts[_text(name)].succeeded = number
        else:
            counts[_text(name)].failed = number
    due = func.coalesce(due_of_first(job_request.c.id, job_request.c.run), due_since())
    measured = (
        select(column, due, job_request.c.started_at, job_request.c.finished_at)
        .where(*final, job_request.c.started_at.is_not(None))
        .order_by(desc(job_request.c.id))
        .limit(MEASURED)
    )
    for name, since, started, finished in connection.execute(measured):
        group = counts[_text(name)]
        group.waits.append(max((started - since).total_seconds(), 0.0))
        group.durations.append(max((finished - started).total_seconds(), 0.0))
    now = read_clock(connection)
    groups = [found.group(name) for name, found in counts.items()]
    groups.sort(key=lambda group: (-(group.waiting + group.blocked + group.running + group.ended), group.name))
    return Statistics(now, period_seconds, tuple(groups), _sum(counts.values()).group(""))


def _text(name: Any) -> str:
    return "" if name is None else str(name)


def _sum(counts: Iterable[_Counts]) -> _Counts:
    total = _Counts()
    for one in counts:
        total.waiting += one.waiting
        total.blocked += one.blocked
        total.running += one.running
        total.succeeded += one.succeeded
        total.failed += one.failed
        total.waits += one.waits
        total.durations += one.durations
        total.oldest_due_at = _earlier(total.oldest_due_at, one.oldest_due_at)
        total.oldest_blocked_at = _earlier(total.oldest_blocked_at, one.oldest_blocked_at)
    return total


def _earlier(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)
