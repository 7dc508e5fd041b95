"""What people read of the outbox, and their retries of its failed tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, case, desc, func, literal, select, update

from spoke_jobs.ledger import audit_events
from spoke_jobs.ledger.audit_events import Action
from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.expressions import clock_once, constant
from spoke_jobs.ledger.filters import matching
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import UnreadPayload


class TaskState(StrEnum):
    """The state of a task in the outbox. A task that has run has no row."""

    DUE = "due"
    """No replica has claimed it."""
    LATER = "later"
    """It waits for its next attempt. With the cause ``UnknownTask``, it waits for a release that knows its name."""
    CLAIMED = "claimed"
    """A replica has claimed it. Its lease has not lapsed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to select. None: any."""

    states: tuple[TaskState, ...] | None = None
    name: str | None = None
    """A name, or a pattern in which ``*`` stands for any characters."""
    cause: str | None = None
    since: datetime | None = None
    """The earliest time of the dispatch."""
    until: datetime | None = None
    """The time before which the task was dispatched."""


ANY_TASK = TaskFilter()


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task of the outbox."""

    id: int
    uid: UUID
    runner: str
    name: str
    state: TaskState
    attempt: int
    """The number of the current or next attempt; of a failed task, of its last one."""
    losses: int
    """The number of the task's claims that have lapsed, because their replicas died."""
    worker: str
    """The replica that claimed it last; empty before that."""
    created_at: datetime
    due_at: datetime
    """When it may be claimed; for a claimed task, the end of its lease."""
    finished_at: datetime | None
    expires_at: datetime | None
    """When the row of a failed task is deleted."""
    cause: str
    """Why the last attempt failed; empty if none has. ``UnknownTask``: it was set aside, its name is unknown."""
    error_type: str
    payload: str
    """Empty in lists, because the payloads of many tasks are large together. An :class:`UnreadPayload` if it is larger
    than a task's may be."""


class ReplicaClaims(NamedTuple):
    """How many tasks of the outbox a replica has claimed."""

    replica: str
    claimed: int
    """Under a valid lease. Their replica is alive, or has died within the lease."""
    lapsed: int
    """Whose lease has lapsed, because the replica died or lost the database. Another replica claims them."""
    lease_ends_at: datetime
    """The latest end of a lease."""


class SelectedTask(NamedTuple):
    """A task that a filter selects."""

    id: int
    name: str


_STATE = case(
    (task_outbox.c.state == constant("failed"), constant(TaskState.FAILED)),
    (task_outbox.c.due_at <= clock_once(), constant(TaskState.DUE)),
    (task_outbox.c.token.is_not(None), constant(TaskState.CLAIMED)),
    else_=constant(TaskState.LATER),
)
_READ: dict[str, ColumnElement[Any]] = {"state": _STATE}


class OutboxQueries:
    """Queries on the outbox of a ledger's database. Each reads a consistent state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tasks(self, which: TaskFilter, limit: int | None = None) -> list[TaskRow]:
        """List the tasks that a filter selects, or the newest of them, newest first."""
        statement = _tasks(payload=False).where(*_conditions(which)).order_by(desc(task_outbox.c.id)).limit(limit)
        with self._reading() as connection:
            return [_row(row) for row in connection.execute(statement).mappings()]

    def selected(self, which: TaskFilter) -> list[SelectedTask]:
        """List the tasks that a filter selects, oldest first."""
        statement = select(task_outbox.c.id, task_outbox.c.name).where(*_conditions(which)).order_by(task_outbox.c.id)
        with self._reading() as connection:
            return [SelectedTask(*row) for row in connection.execute(statement)]

    def task(self, task_id: int) -> TaskRow | None:
        """Get a task; None if there is none with that id."""
        with self._reading() as connection:
            row = connection.execute(_tasks(payload=True).where(task_outbox.c.id == task_id)).mappings().first()
        return None if row is None else _row(row)

    def counts(self) -> dict[TaskState, int]:
        """Count the tasks in each state."""
        statement = select(_STATE, func.count()).group_by(_STATE)
        with self._reading() as connection:
            found = {TaskState(state): count for state, count in connection.execute(statement)}
        return {state: found.get(state, 0) for state in TaskState}

    def replicas(self) -> list[ReplicaClaims]:
        """List the replicas that have claims, by name. An idle replica has none."""
        lapsed = func.sum(case((constant(TaskState.DUE) == _STATE, 1), else_=0))
        statement = (
            select(task_outbox.c.worker, func.count() - lapsed, lapsed, func.max(task_outbox.c.due_at))
            .where(task_outbox.c.state == constant("pending"), task_outbox.c.token.is_not(None))
            .group_by(task_outbox.c.worker)
            .order_by(task_outbox.c.worker)
        )
        with self._reading() as connection:
            return [ReplicaClaims(*row) for row in connection.execute(statement)]

    def now(self) -> datetime:
        """Get the database's time."""
        with self._reading() as connection:
            now: datetime = connection.execute(select(clock_now())).scalar_one()
            return now

    def retry(self, ids: Collection[int], by: str = "") -> set[int]:
        """Make failed tasks due again, with all their attempts; return the ids of those that were failed.

        :param by: who does so, for the events.
        """
        again = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(ids), task_outbox.c.state == constant("failed"))
            .values(
                state="pending",
                attempt=1,
                losses=0,
                token=None,
                due_at=clock_now(),
                finished_at=None,
                expires_at=None,
            )
            .returning(task_outbox.c.id, task_outbox.c.name)
        )
        with self._engine.begin() as connection:
            retried = {row.id: row.name for row in connection.execute(again)}
            for task_id, name in sorted(retried.items()):
                audit_events.record(connection, Action.RETRY_TASK, by, detail=f"task {task_id} ({name})")
        return set(retried)

    def _reading(self) -> Any:
        return self._engine.connect().execution_options(**{READ_ONLY: True})


def _tasks(*, payload: bool) -> Any:
    read = _READ if payload else _READ | {"payload": literal("")}
    names: Sequence[str] = TaskRow.__slots__
    return select(*(read[name].label(name) if name in read else task_outbox.c[name] for name in names))


def _row(row: Any) -> TaskRow:
    payload = UnreadPayload() if row["payload"] is None else row["payload"]
    return TaskRow(**{**row, "state": TaskState(row["state"]), "payload": payload})


def _conditions(which: TaskFilter) -> Iterator[ColumnElement[bool]]:
    if which.states is not None:
        yield _STATE.in_([state.value for state in which.states])
    if which.name is not None:
        yield matching(task_outbox.c.name, which.name)
    if which.cause is not None:
        yield task_outbox.c.cause == which.cause
    if which.since is not None:
        yield task_outbox.c.created_at >= which.since
    if which.until is not None:
        yield task_outbox.c.created_at < which.until
