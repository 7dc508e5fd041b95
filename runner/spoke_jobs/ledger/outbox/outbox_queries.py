"""What people read of the outbox, and their retries of its failed tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, Select, case, desc, func, literal, select, update

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_now, read_clock
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.outbox.task_outbox import not_aside
from spoke_jobs.ledger.outbox_row import TaskRow, TaskState
from spoke_jobs.ledger.sql.expressions import clock_once, constant
from spoke_jobs.ledger.sql.filters import matching
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import UnreadPayload


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
    before: int | None = None
    """Only tasks with lower ids."""


ANY_TASK = TaskFilter()
LOOKED_THROUGH = 100_000
"""Among how many tasks those that a filter selects are looked for, for one page. Few filters have an index."""


class TaskPage(NamedTuple):
    """Tasks of one page, newest first."""

    tasks: list[TaskRow]
    more: bool
    """Whether there are more among the tasks that were looked through."""
    looked_down_to: int | None
    """The lowest id of the tasks that were looked through, if there are older ones."""


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


TASK_STATE = case(
    (task_outbox.c.state == constant("failed"), constant(TaskState.FAILED)),
    (task_outbox.c.due_at <= clock_once(), constant(TaskState.DUE)),
    (task_outbox.c.token.is_not(None), constant(TaskState.CLAIMED)),
    else_=constant(TaskState.LATER),
)
"""The state of a row, as :class:`TaskState` has it."""
_READ: dict[str, ColumnElement[Any]] = {"state": TASK_STATE}


class OutboxQueries:
    """Queries on the outbox of a ledger's database. Each reads a consistent state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tasks(self, which: TaskFilter, limit: int | None = None) -> list[TaskRow]:
        """List the tasks that a filter selects, or the newest of them, newest first."""
        statement = _tasks(payload=False).where(*_conditions(which)).order_by(desc(task_outbox.c.id)).limit(limit)
        with self._reading() as connection:
            return [_row(row) for row in connection.execute(statement).mappings()]

    def page(self, which: TaskFilter, limit: int) -> TaskPage:
        """Read the newest tasks that a filter selects, of the newest :data:`LOOKED_THROUGH`.

        Failed tasks have an index, so that they are looked for among all.
        """
        statement = _tasks(payload=False).where(*_conditions(which)).order_by(desc(task_outbox.c.id)).limit(limit + 1)
        last: int | None = None
        with self._reading() as connection:
            if replace(which, before=None) != ANY_TASK and which.states != (TaskState.FAILED,):
                last = connection.scalar(_after_the_newest(which.before))
            if last is not None:
                statement = statement.where(task_outbox.c.id > last)
            tasks = [_row(row) for row in connection.execute(statement).mappings()]
        return TaskPage(tasks[:limit], len(tasks) > limit, None if last is None else last + 1)

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
        statement = select(TASK_STATE, func.count()).group_by(TASK_STATE)
        with self._reading() as connection:
            found = {TaskState(state): count for state, count in connection.execute(statement)}
        return {state: found.get(state, 0) for state in TaskState}

    def replicas(self) -> list[ReplicaClaims]:
        """List the replicas that have claims, by name. An idle replica has none."""
        lapsed = func.sum(case((constant(TaskState.DUE) == TASK_STATE, 1), else_=0))
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
            now: datetime = read_clock(connection)
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
                cause=not_aside(),
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


def _after_the_newest(before: int | None) -> Select[tuple[int]]:
    """Select the id of the first task that is not among the newest :data:`LOOKED_THROUGH`."""
    ids = select(task_outbox.c.id).order_by(desc(task_outbox.c.id)).offset(LOOKED_THROUGH).limit(1)
    return ids if before is None else ids.where(task_outbox.c.id < before)


def _row(row: Any) -> TaskRow:
    payload = UnreadPayload() if row["payload"] is None else row["payload"]
    return TaskRow(**{**row, "state": TaskState(row["state"]), "payload": payload})


def _conditions(which: TaskFilter) -> Iterator[ColumnElement[bool]]:
    if which.states == (TaskState.FAILED,):
        yield task_outbox.c.state == constant("failed")
        yield task_outbox.c.expires_at.is_not(None)  # for the index: each failed task has it
    elif which.states is not None:
        yield TASK_STATE.in_([state.value for state in which.states])
        if TaskState.FAILED not in which.states:
            yield task_outbox.c.state == constant("pending")
    if which.name is not None:
        yield matching(task_outbox.c.name, which.name)
    if which.cause is not None:
        yield task_outbox.c.cause == which.cause
    if which.since is not None:
        yield task_outbox.c.created_at >= which.since
    if which.until is not None:
        yield task_outbox.c.created_at < which.until
    if which.before is not None:
        yield task_outbox.c.id < which.before
