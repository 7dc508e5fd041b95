"""Counts of the jobs of each queue, for the dashboard. Each statement reads a bounded number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, desc, func, select

from spoke_jobs.contract.limit_scopes import PLAIN_DIMENSIONS, Scope, ScopeKind, Subject
from spoke_jobs.ledger.claims.eligibility import Due
from spoke_jobs.ledger.columns.clock import clock_after, read_clock
from spoke_jobs.ledger.reading.first_waiting import first_of_each, may_be_more, waiting_runners
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, due_since, limited_column, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import AttemptState, JobFilter, JobState

EXAMINED = 10_000
"""The most waiting jobs that are counted: of each runner, those that are claimed first."""
STARTED_SECONDS = 600.0
"""The period in which started attempts are counted."""
NEWEST_ATTEMPTS = 5_000
"""Among how many of the newest attempts, of all organizations."""


PAUSED_GROUPS = 5_000
"""Among how many groups of due jobs, the largest ones, those that a pause holds are counted."""


@dataclass(frozen=True, slots=True)
class LockedBy:
    """The job that holds a queue's lock."""

    job_id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class QueueCount:
    """The jobs of a queue."""

    name: str
    """Empty for the jobs of no queue."""
    due: int = 0
    later: int = 0
    """The waiting jobs that are not due yet."""
    oldest_at: datetime | None = None
    """Since when the oldest due job has been due."""
    running: int = 0
    started: int = 0
    """The attempts that were started within the last :data:`STARTED_SECONDS`."""
    lock: LockedBy | None = None
    held: tuple[tuple[Scope, int], ...] = ()
    """How many of the due jobs each pause holds that is not the queue's own, the largest number first."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """All queues with waiting or running jobs, or with attempts of late, those with the most due jobs first."""

    now: datetime
    queues: tuple[QueueCount, ...]
    more: bool
    """Whether more jobs wait than were counted."""
    more_started: bool
    """Whether more attempts may have been started than were counted. It is known of a filter that selects all jobs."""


def queue_counts(connection: Connection, which: JobFilter, limits: Collection[JobLimit] = ()) -> QueueCounts:
    """Count the jobs of each queue, of those that pass the filter.

    :param limits: those whose pauses count. None for somebody who may not see them.
    """
    found: dict[str, QueueCount] = {}
    runners = waiting_runners(connection)
    waiting: Counter[str] = Counter()
    for runner, name, due, later, oldest_at in connection.execute(_waiting(which, runners)):
        waiting[runner] += due + later
        before = found.get(name, QueueCount(name))
        oldest = min((at for at in (before.oldest_at, oldest_at) if at is not None), default=None)
        found[name] = QueueCount(name, before.due + due, before.later + later, oldest)
    more = may_be_more(max(waiting.values(), default=0), runners, EXAMINED)
    for name, running in _rows(connection, which, of_running=True):
        found[name] = replace(found.get(name, QueueCount(name)), running=running)
    counted = 0
    for name, started in _rows(connection, which, of_running=False):
        found[name] = replace(found.get(name, QueueCount(name)), started=started)
        counted += started
    locks = (
        select(queue_lock.c.queue_name, queue_lock.c.job_id, queue_lock.c.acquired_at)
        .join(job_request, job_request.c.id == queue_lock.c.job_id)
        .where(*filters.conditions(which))
        .limit(EXAMINED)
    )
    for name, job_id, since in connection.execute(locks):
        found[name] = replace(found.get(name, QueueCount(name)), lock=LockedBy(job_id, since))
    now = read_clock(connection)
    paused = [limit for limit in limits if limit.paused_at(now) is not None]
    for name, held in _held(connection, which, paused, runners).items():
        found[name] = replace(found.get(name, QueueCount(name)), held=tuple(held.most_common()))
    queues = sorted(found.values(), key=lambda queue: (-queue.due, -queue.later, -queue.running, queue.name))
    return QueueCounts(now, tuple(queues), more, counted >= NEWEST_ATTEMPTS)


def _waiting(which: JobFilter, runners: Sequence[str]) -> Select[Any]:
    due = Due().expression()
    waiting = select(
        job_request.c.runner,
        job_request.c.queue_name,
        case((due, 1), else_=0).label("due"),
        case((due, due_since()), else_=None).label("due_at"),
    ).where(job_request.c.state == constant(JobState.WAITING), *filters.conditions(which))
    each = first_of_each(waiting, runners, EXAMINED).subquery()
    kind, number = (each.c.runner, each.c.queue_name), func.sum(each.c.due)
    return select(*kind, number, func.count() - number, func.min(each.c.due_at)).group_by(*kind)


def _held(
    connection: Connection, which: JobFilter, paused: Collection[JobLimit], runners: Sequence[str]
) -> Mapping[str, Counter[Scope]]:
    """Count the due jobs that pauses of other scopes than queues hold, by queue and by the narrowest of them."""
    limits = LimitSet(limit for limit in paused if limit.scope.kind is not ScopeKind.QUEUE)
    found: dict[str, Counter[Scope]] = {}
    if not limits:
        return found
    named = [dimension for dimension in PLAIN_DIMENSIONS if dimension.kind is not ScopeKind.QUEUE]
    waiting = select(
        job_request.c.job_type,
        job_request.c.queue_name,
        *(limited_column(dimension, limits.scopes).label(dimension.field) for dimension in named),
        case((Due().expression(), 1), else_=0).label("due"),
    ).where(job_request.c.state == constant(JobState.WAITING), *filters.conditions(which))
    each = first_of_each(waiting, runners, EXAMINED).subquery()
    subject = [each.c[field] for field in Subject._fields]
    counted = (
        select(*subject, func.count().label("number"))
        .where(each.c.due == 1)
        .group_by(*subject)
        .order_by(desc("number"))
        .limit(PAUSED_GROUPS)
    )
    for *values, number in connection.execute(counted):
        for limit, _ in limits.of(Subject(*values)):
            found.setdefault(values[1], Counter())[limit.scope] += number
            break
    return found


def _rows(connection: Connection, which: JobFilter, *, of_running: bool) -> Iterable[tuple[str, int]]:
    """Count running attempts, or those that were started of late, by queue."""
    attempts = (
        select(job_attempt.c.job_id).where(job_attempt.c.state == constant(AttemptState.RUNNING)).subquery()
        if of_running
        else select(job_attempt.c.job_id, job_attempt.c.claimed_at)
        .order_by(desc(job_attempt.c.id))
        .limit(number_in_text(NEWEST_ATTEMPTS))
        .subquery()
    )
    statement = select(job_request.c.queue_name, func.count()).join(attempts, attempts.c.job_id == job_request.c.id)
    if not of_running:
        statement = statement.where(attempts.c.claimed_at >= select(clock_after(-STARTED_SECONDS)).scalar_subquery())
    counted = connection.execute(statement.where(*filters.conditions(which)).group_by(job_request.c.queue_name))
    return ((name, number) for name, number in counted)
