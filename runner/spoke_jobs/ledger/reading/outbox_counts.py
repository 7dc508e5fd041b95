"""Counts of the tasks of the outbox, for the dashboard. Each statement reads a bounded number of rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Subquery, case, desc, func, select

from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.outbox.outbox_queries import TASK_STATE, ReplicaClaims
from spoke_jobs.ledger.outbox_row import TaskState
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import task_outbox

EXAMINED = 100_000
"""The most tasks that are counted among those that have not failed for good."""
FAILED_COUNTED = 10_000
"""The most failed tasks that are counted: those that failed last."""
_REPLICAS = 200
"""The most replicas that are listed."""


@dataclass(frozen=True, slots=True)
class NameCount:
    """The tasks of a name that have not failed for good."""

    name: str
    due: int = 0
    later: int = 0
    claimed: int = 0
    retried: int = 0
    """How many of them have failed before."""
    oldest_at: datetime | None = None
    """Since when the oldest due task has been due."""


@dataclass(frozen=True, slots=True)
class FailedTasks:
    """The tasks of a name that have failed for good for the same cause."""

    name: str
    cause: str
    count: int
    newest_at: datetime | None
    newest_id: int


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """All tasks of the outbox, counted."""

    now: datetime
    names: tuple[NameCount, ...]
    """Those with the most due tasks first."""
    failed: tuple[FailedTasks, ...]
    """The largest groups first."""
    replicas: tuple[ReplicaClaims, ...]
    """The replicas of the task deployment that have claims, by name."""
    more: bool
    """Whether there are more tasks that have not failed than were counted."""
    more_failed: bool
    """The same of the failed ones."""


def outbox_counts(connection: Connection) -> OutboxCounts:
    """Count the tasks of the outbox by name and state, by cause, and by replica."""
    each = _pending()
    states: defaultdict[str, Counter[str]] = defaultdict(Counter)
    retries: Counter[str] = Counter()
    oldest: dict[str, datetime] = {}
    for name, state, number, retried, due_at in connection.execute(_by_name(each)):
        states[name][state] = number
        retries[name] += retried
        if state == TaskState.DUE:
            oldest[name] = due_at
    names = [
        NameCount(
            name,
            found[TaskState.DUE],
            found[TaskState.LATER],
            found[TaskState.CLAIMED],
            retries[name],
            oldest.get(name),
        )
        for name, found in states.items()
    ]
    failed = [FailedTasks(*row) for row in connection.execute(_failed())]
    return OutboxCounts(
        connection.execute(select(clock_now())).scalar_one(),
        tuple(sorted(names, key=lambda one: (-one.due, -one.later, -one.claimed, one.name))),
        tuple(sorted(failed, key=lambda one: (-one.count, one.name, one.cause))),
        tuple(ReplicaClaims(*row) for row in connection.execute(_by_replica(each))),
        sum(found.total() for found in states.values()) >= EXAMINED,
        sum(one.count for one in failed) >= FAILED_COUNTED,
    )


def _pending() -> Subquery:
    """Select tasks that have not failed for good. A task that has run has no row."""
    columns = task_outbox.c
    return (
        select(
            columns.name,
            TASK_STATE.label("state"),
            case((columns.attempt > 1, 1), else_=0).label("retried"),
            columns.token.is_not(None).label("claimed"),
            columns.worker,
            columns.due_at,
        )
        .where(columns.state == constant("pending"))
        .limit(EXAMINED)
        .subquery()
    )


def _by_name(each: Subquery) -> Select[Any]:
    kind = (each.c.name, each.c.state)
    return select(*kind, func.count(), func.sum(each.c.retried), func.min(each.c.due_at)).group_by(*kind)


def _by_replica(each: Subquery) -> Select[Any]:
    lapsed = func.sum(case((each.c.state == constant(TaskState.DUE), 1), else_=0))
    return (
        select(each.c.worker, func.count() - lapsed, lapsed, func.max(each.c.due_at))
        .where(each.c.claimed)
        .group_by(each.c.worker)
        .order_by(each.c.worker)
        .limit(_REPLICAS)
    )


def _failed() -> Select[Any]:
    """Count failed tasks. Those that failed last are deleted last, and there is an index for the deletion."""
    columns = task_outbox.c
    each = (
        select(columns.name, columns.cause, columns.finished_at, columns.id)
        .where(columns.state == constant("failed"), columns.expires_at.is_not(None))
        .order_by(desc(columns.expires_at))
        .limit(FAILED_COUNTED)
        .subquery()
    )
    kind = (each.c.name, each.c.cause)
    return select(*kind, func.count(), func.max(each.c.finished_at), func.max(each.c.id)).group_by(*kind)
