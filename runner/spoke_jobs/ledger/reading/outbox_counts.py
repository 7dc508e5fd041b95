"""Counts of the tasks of the outbox, for the dashboard. Each statement reads a bounded number of rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Subquery, case, desc, func, literal, select, union_all

from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.outbox.outbox_queries import TASK_STATE, ReplicaClaims
from spoke_jobs.ledger.outbox_row import TaskState
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import task_outbox

EXAMINED = 10_000
"""The most due tasks that are counted, and the most others that have not failed for good."""
FAILED_COUNTED = 5_000
"""The most failed tasks that are counted: those that failed last."""
_CLAIMS_EXAMINED = 1_000
"""Among how many tasks of a runner the claims are looked for, if nothing else is counted."""
REPLICAS = 200
"""The most replicas that are listed."""
_RUNNERS = 20
"""The most runners whose tasks are counted. Nearly always there is one."""


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
    """The task that failed last."""


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
    more_due: bool
    """Whether there are more due tasks than were counted."""
    more_ahead: bool
    """The same of the later and the claimed ones."""
    more_failed: bool
    """The same of the failed ones."""
    more_replicas: bool
    """Whether more replicas have claims."""


def outbox_counts(connection: Connection) -> OutboxCounts:
    """Count the tasks of the outbox by name and state, by cause, and by replica."""
    now: datetime = read_clock(connection)
    states: defaultdict[str, Counter[str]] = defaultdict(Counter)
    retries: Counter[str] = Counter()
    oldest: dict[str, datetime] = {}
    counted: Counter[bool] = Counter()
    claims: dict[str, ReplicaClaims] = {}
    if runners := _runners(connection):
        for row in connection.execute(_by_kind(_pending(runners, now))):
            states[row.name][row.state] += row.number
            counted[row.ahead] += row.number
            retries[row.name] += row.retried
            if row.state == TaskState.DUE:
                oldest[row.name] = min(row.first, oldest.get(row.name, row.first))
            if row.claimed:
                claims[row.worker] = _with(claims.get(row.worker), row)
    replicas = sorted(claims.values(), key=lambda one: one.replica)
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
        now,
        tuple(sorted(names, key=lambda one: (-one.due, -one.later, -one.claimed, one.name))),
        tuple(sorted(failed, key=lambda one: (-one.count, one.name, one.cause))),
        tuple(replicas[:REPLICAS]),
        counted[False] >= EXAMINED,
        counted[True] >= EXAMINED,
        sum(one.count for one in failed) >= FAILED_COUNTED,
        len(replicas) > REPLICAS,
    )


def claiming_replicas(connection: Connection) -> list[ReplicaClaims]:
    """List the replicas that have claims under a valid lease, by name.

    Leases are short. So claims are among the next :data:`_CLAIMS_EXAMINED` tasks of each runner that are not due.
    """
    now: datetime = read_clock(connection)
    if not (runners := _runners(connection)):
        return []
    each = union_all(
        *(select(_of_runner(runner, now, ahead=True, limit=_CLAIMS_EXAMINED)) for runner in runners)
    ).subquery()
    statement = (
        select(each.c.worker, func.count(), literal(0), func.max(each.c.due_at))
        .where(each.c.claimed)
        .group_by(each.c.worker)
        .order_by(each.c.worker)
        .limit(REPLICAS)
    )
    return [ReplicaClaims(*row) for row in connection.execute(statement)]


def _runners(connection: Connection) -> list[str]:
    """List the runners that have tasks which have not failed for good: one look into the index for each."""
    runner = task_outbox.c.runner
    first = select(runner).where(task_outbox.c.state == constant("pending")).order_by(runner).limit(1)
    found: list[str] = []
    while len(found) < _RUNNERS:
        following = connection.scalar(first.where(runner > found[-1]) if found else first)
        if following is None:
            break
        found.append(following)
    return found


def _pending(runners: list[str], now: datetime) -> Subquery:
    """Select tasks that have not failed for good. A task that has run has no row.

    The due ones and the others have a cap each. Otherwise, the claims would be missing behind many due tasks.
    """
    parts = [
        union_all(*(select(_of_runner(runner, now, ahead=ahead, limit=EXAMINED)) for runner in runners))
        .limit(EXAMINED)
        .subquery()
        for ahead in (False, True)
    ]
    return union_all(*(select(part) for part in parts)).subquery()


def _of_runner(runner: str, now: datetime, *, ahead: bool, limit: int) -> Subquery:
    """Select a runner's tasks in the order of the index.

    :param limit: how many at most.
    :param ahead: those that are not due, the next ones first. The claims are among these, because leases are short.
    """
    columns = task_outbox.c
    is_ahead = columns.due_at > now
    when = is_ahead if ahead else columns.due_at <= now
    return (
        select(
            columns.name,
            TASK_STATE.label("state"),
            case((columns.attempt > 1, 1), else_=0).label("retried"),
            columns.token.is_not(None).label("claimed"),
            case((columns.token.is_not(None), columns.worker), else_="").label("worker"),
            columns.due_at,
            is_ahead.label("ahead"),
        )
        .where(columns.state == constant("pending"), columns.runner == runner, when)
        .order_by(columns.due_at, columns.id)
        .limit(limit)
        .subquery()
    )


def _by_kind(each: Subquery) -> Select[Any]:
    """Count by all that is told apart, so that the tasks are read once."""
    kind = (each.c.name, each.c.state, each.c.ahead, each.c.claimed, each.c.worker)
    return select(
        *kind,
        func.count().label("number"),
        func.sum(each.c.retried).label("retried"),
        func.min(each.c.due_at).label("first"),
        func.max(each.c.due_at).label("last"),
    ).group_by(*kind)


def _with(claims: ReplicaClaims | None, row: Any) -> ReplicaClaims:
    """Add claims to those of their replica. One that is due has lapsed."""
    before = claims or ReplicaClaims(row.worker, 0, 0, row.last)
    lapsed = row.number if row.state == TaskState.DUE else 0
    return ReplicaClaims(
        row.worker, before.claimed + row.number - lapsed, before.lapsed + lapsed, max(before.lease_ends_at, row.last)
    )


def _failed() -> Select[Any]:
    """Count failed tasks. Those that failed last are deleted last, and there is an index for the deletion."""
    columns = task_outbox.c
    failed = (
        select(columns.name, columns.cause, columns.finished_at, columns.id)
        .where(columns.state == constant("failed"), columns.expires_at.is_not(None))
        .order_by(desc(columns.expires_at))
        .limit(FAILED_COUNTED)
        .subquery()
    )
    tasks = failed.c
    # A retried task keeps its id: the highest may have failed first. Other code may have written no time of the end.
    last_first = (tasks.finished_at.is_(None), desc(tasks.finished_at), desc(tasks.id))
    last_id = func.first_value(tasks.id).over(partition_by=(tasks.name, tasks.cause), order_by=last_first)
    each = select(*tasks, last_id.label("last_id")).subquery()
    kind = (each.c.name, each.c.cause)
    return select(*kind, func.count(), func.max(each.c.finished_at), func.max(each.c.last_id)).group_by(*kind)
