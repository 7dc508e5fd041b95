"""The outbox: tasks written in their callers' transactions, claimed after the commit.

A claim sets ``due_at`` to the end of its lease, and writes a new token. One condition therefore finds both the tasks
that wait and those whose claim has lapsed. A task that has run is deleted, in the transaction of its own writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Dialect, Engine, and_, case, delete, func, insert, or_, select, update

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.ledger.columns.clock import clock_after, clock_now, waited_seconds
from spoke_jobs.ledger.columns.column_types import byte_length
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.lifecycle.transitions import superseded
from spoke_jobs.ledger.outbox.task_replicas import SlotUse, sign, sign_off
from spoke_jobs.ledger.sql.expressions import clock_once, constant, increased, known_in_sql
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import RETENTION_SECONDS, SUSPECT_LOSSES, UnreadPayload

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

UNKNOWN_SECONDS = 3600.0
"""How long a task whose name is unknown waits for a replica that knows it."""
UNKNOWN_DUE = 1000
"""How many tasks with unknown names stay due. Claims read over them, so the others are set aside."""
ASIDE_AFTER_SECONDS = 10.0
"""How long a task has been due before it is set aside: a replica of the newest release may know its name."""
HOUSEKEPT = 1000
"""How many tasks one statement of housekeeping changes or deletes at most."""
_PENDING = constant("pending")
_GIVEN = ("uid", "runner", "name", "payload")
_TRACED = (*_GIVEN, "traceparent")
_GENERATED = {"created_at": clock_now(), "due_at": clock_now()}
COLUMNS = frozenset({*_TRACED, *_GENERATED})
"""The columns that a dispatch writes."""
_INSERT = insert(task_outbox).values(_GENERATED).inline()  # without RETURNING, which would need the right to SELECT


@dataclass(frozen=True, slots=True)
class OutboxTask:
    """A claimed task."""

    id: int
    uid: UUID
    name: str
    payload: str
    """JSON text; an :class:`UnreadPayload` if it is larger than a task's may be."""
    attempt: int
    """The number of the attempt: 1 + the number of failed attempts."""
    losses: int
    """The number of the task's claims that have lapsed."""
    token: UUID
    """The claim's token, which every later write requires."""
    waited_seconds: float = 0.0
    """From the task's dispatch to this claim, including earlier attempts, as metrics count it."""
    traceparent: str = ""
    """The trace context of the dispatch; empty if there was none."""


_CLAIM = {"token", "waited_seconds"}
"""What the claim adds to the columns of an :class:`OutboxTask`."""
_COLUMNS = [task_outbox.c[item.name] for item in fields(OutboxTask) if item.name not in _CLAIM]


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """The end of a failed attempt."""

    cause: str
    error_type: str = ""
    retry_seconds: float | None = None
    """Seconds until the next attempt; None if the task has failed for good."""


def insert_task(connection: Connection, runner: str, name: str, payload: str, traceparent: str = "") -> None:
    """Write a task in the connection's transaction.

    :param traceparent: the trace context of the dispatch; empty if there is none.
    """
    values = dict(zip(_GIVEN, (uuid.uuid4(), runner, name, payload), strict=True))
    if traceparent:  # else without the column, for which a role may not have been granted the right yet
        values["traceparent"] = traceparent
    dialect = connection.dialect
    if dialect.name == "postgresql" and dialect.driver in ("psycopg", "psycopg_async"):
        connection.exec_driver_sql(
            _compiled(dialect, tuple(values)), values
        )  # building the statement takes longer than running it
    else:
        connection.execute(_INSERT, values)


@lru_cache
def _compiled(dialect: Dialect, names: tuple[str, ...]) -> str:
    return str(_INSERT.compile(dialect=dialect, column_keys=list(names)))


def not_aside() -> ColumnElement[str]:
    """The cause of a task that is no longer set aside: none. Other causes stay."""
    return case((task_outbox.c.cause == constant(TaskCause.UNKNOWN_TASK), ""), else_=task_outbox.c.cause)


class Outbox:
    """One runner's tasks. Each method is one transaction, except those that take a session."""

    def __init__(self, engine: Engine, runner: str) -> None:
        self.engine = engine
        self._runner = runner
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def claim(
        self, names: Collection[str], worker: str, lease_seconds: float, limit: int, *, suspects: bool = False
    ) -> Sequence[OutboxTask]:
        """Claim up to ``limit`` due tasks of these names (or prefixes, ``send.*``), the longest due first.

        :param suspects: claim only the tasks that have lost so many claims that they may be killing replicas.
        """
        token, size = uuid.uuid4(), byte_length(task_outbox.c.payload).label("size")
        lost = increased(task_outbox.c.losses, _lost())
        due = (
            select(task_outbox.c.id)
            .where(*self._pending(), task_outbox.c.due_at <= clock_once(), known_in_sql(task_outbox.c.name, names))
            .where(lost >= SUSPECT_LOSSES if suspects else lost < SUSPECT_LOSSES)
            .order_by(task_outbox.c.due_at, task_outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        statement = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(select(due.c.id)))
            .values(
                token=token,
                worker=worker,
                losses=lost,
                cause=not_aside(),
                due_at=clock_after(lease_seconds),
            )
            .returning(*_COLUMNS, size, task_outbox.c.created_at, clock_now().label("now"))
        )
        with self._single() as connection:
            rows = connection.execute(statement).all()
        tasks = [_claimed(row, token) for row in rows]
        return sorted(tasks, key=lambda task: task.id)

    def renew(self, tasks: Collection[OutboxTask], lease_seconds: float) -> set[int]:
        """Renew the leases of these claims. Return the ids of the tasks whose claims are valid.

        A transaction that is finishing a task locks its row. Count that claim as valid: waiting for the lock would
        delay the renewal of the others.
        """
        held = select(task_outbox.c.id).where(_held(tasks))
        free = held.with_for_update(skip_locked=True).cte("free")
        renewal = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(select(free.c.id)))
            .values(due_at=clock_after(lease_seconds))
            .returning(task_outbox.c.id)
        )
        renewed = self._ids(renewal)
        return renewed if len(renewed) == len(tasks) else renewed | self._ids(held)

    def fence(self, session: Session, task: OutboxTask) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit.

        :raises Superseded: if the claim is gone.
        """
        locked = select(task_outbox.c.id).where(_held([task])).with_for_update()
        if session.connection().scalar(locked) is None:
            raise superseded()

    def finish(self, session: Session, task: OutboxTask) -> None:
        """Record in the session's transaction that the task has run.

        :raises Superseded: if the claim is gone.
        """
        if session.connection().scalar(_deletion([task])) is None:
            raise superseded()

    def finish_many(self, tasks: Collection[OutboxTask]) -> set[int]:
        """Record that the tasks have run. Return the ids of those whose claims were valid."""
        return self._ids(_deletion(tasks))

    def fail(self, task: OutboxTask, failure: TaskFailure) -> bool:
        """Record a failed attempt; return False if the claim is gone."""
        again = {"attempt": increased(task_outbox.c.attempt), "due_at": clock_after(failure.retry_seconds or 0.0)}
        over = {"state": "failed", "finished_at": clock_now(), "expires_at": clock_after(RETENTION_SECONDS)}
        statement = (
            update(task_outbox)
            .where(_held([task]))
            .values(
                token=None,
                cause=failure.cause,
                error_type=failure.error_type,
                **(over if failure.retry_seconds is None else again),
            )
            .returning(task_outbox.c.id)
        )
        return bool(self._ids(statement))

    def release(self, tasks: Collection[OutboxTask]) -> None:
        """Undo claims: the tasks are due immediately, as if they had never been claimed."""
        with self._single() as connection:
            connection.execute(update(task_outbox).where(_held(tasks)).values(token=None, due_at=clock_now()))

    def expire_unknown(self, names: Collection[str], limit: int = HOUSEKEPT) -> int:
        """Fail the tasks that have been due, or set aside, for an hour and whose name is unknown; return how many.

        This includes tasks whose claim lapsed an hour ago: a replica of another release claimed them, and died.
        """
        for_an_hour = task_outbox.c.due_at < clock_after(-UNKNOWN_SECONDS)
        was_aside = and_(task_outbox.c.due_at < clock_once(), *self._aside())
        unknown = (
            select(task_outbox.c.id)
            .where(
                *self._pending(),
                task_outbox.c.due_at < clock_once(),
                or_(for_an_hour, was_aside),
                ~known_in_sql(task_outbox.c.name, names),
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("unknown")
        )
        statement = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(select(unknown.c.id)))
            .values(
                state="failed",
                token=None,
                cause=TaskCause.UNKNOWN_TASK,
                finished_at=clock_now(),
                expires_at=clock_after(RETENTION_SECONDS),
            )
            .returning(task_outbox.c.id)
        )
        return len(self._ids(statement))

    def set_unknown_aside(self, names: Collection[str], limit: int = HOUSEKEPT) -> int:
        """Keep claims from reading over many tasks whose names are unknown; return how many were set aside.

        They are due again in an hour, unless a replica that knows their names recalls them. They wait unclaimed, with
        the cause :attr:`TaskCause.UNKNOWN_TASK`.
        """
        aside = (
            select(task_outbox.c.id)
            .where(
                *self._pending(),
                task_outbox.c.due_at < clock_once(-ASIDE_AFTER_SECONDS),
                ~known_in_sql(task_outbox.c.name, names),
            )
            .order_by(task_outbox.c.due_at, task_outbox.c.id)
            .offset(UNKNOWN_DUE)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("aside")
        )
        statement = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(select(aside.c.id)))
            .values(
                token=None,
                losses=increased(task_outbox.c.losses, _lost()),
                cause=TaskCause.UNKNOWN_TASK,
                due_at=clock_after(UNKNOWN_SECONDS),
            )
            .returning(task_outbox.c.id)
        )
        return len(self._ids(statement))

    def recall(self, names: Collection[str], limit: int = HOUSEKEPT) -> int:
        """Make tasks of these names due that were set aside by replicas that did not know them; return how many."""
        known = (
            select(task_outbox.c.id)
            .where(*self._aside(), task_outbox.c.due_at > clock_once(), known_in_sql(task_outbox.c.name, names))
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("known")
        )
        statement = (
            update(task_outbox)
            .where(task_outbox.c.id.in_(select(known.c.id)))
            .values(cause="", due_at=clock_now())
            .returning(task_outbox.c.id)
        )
        return len(self._ids(statement))

    def prune(self, limit: int = HOUSEKEPT) -> int:
        """Delete failed tasks whose retention is over; return how many."""
        over = (
            select(task_outbox.c.id)
            .where(task_outbox.c.expires_at < clock_once())
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("over")
        )
        return len(
            self._ids(delete(task_outbox).where(task_outbox.c.id.in_(select(over.c.id))).returning(task_outbox.c.id))
        )

    def backlog(self) -> Mapping[str, float]:
        """Count the ``due`` tasks and the kept ``failed`` ones. ``oldest``: how long the oldest has been due."""
        waits = and_(*self._pending(), task_outbox.c.due_at <= clock_once())
        failed = select(func.count()).where(task_outbox.c.runner == self._runner, task_outbox.c.expires_at.is_not(None))
        statement = select(func.count(), func.min(task_outbox.c.due_at), clock_now(), failed.scalar_subquery()).where(
            waits
        )
        with self.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            due, oldest, now, kept = connection.execute(statement).one()
        return {
            "due": due,
            "oldest": waited_seconds(oldest, now) if oldest is not None else 0.0,
            "failed": kept,
        }

    def sign(self, replica: str, use: SlotUse, *, age_seconds: float, first: bool) -> None:
        """Write that a replica is alive, and how many of its slots are in use."""
        with self._single() as connection:
            sign(connection, replica, use, age_seconds=age_seconds, first=first)

    def sign_off(self, replica: str) -> None:
        """Delete what a replica has written by :meth:`sign`."""
        with self._single() as connection:
            sign_off(connection, replica)

    def _pending(self) -> list[Any]:
        return [task_outbox.c.state == _PENDING, task_outbox.c.runner == self._runner]

    def _aside(self) -> list[Any]:
        """Match the tasks that were set aside. No failure of an attempt has this cause and leaves its task pending."""
        return [*self._pending(), task_outbox.c.cause == TaskCause.UNKNOWN_TASK, task_outbox.c.token.is_(None)]

    def _ids(self, statement: Any) -> set[int]:
        with self._single() as connection:
            return set(connection.scalars(statement))

    def _single(self) -> Any:
        """Open a connection for a single statement: without BEGIN and COMMIT, except on SQLite."""
        return self._autocommit.connect() if self.engine.dialect.name == "postgresql" else self.engine.begin()


def _claimed(row: Any, token: UUID) -> OutboxTask:
    columns = {column.name: getattr(row, column.name) for column in _COLUMNS}
    if row.payload is None:
        columns["payload"] = UnreadPayload.of(row.size)
    return OutboxTask(**columns, token=token, waited_seconds=waited_seconds(row.created_at, row.now))


def _lost() -> ColumnElement[int]:
    """How many claims a due task has just lost: one, if its claim lapsed."""
    return case((task_outbox.c.token.is_not(None), 1), else_=0)


def _held(tasks: Collection[OutboxTask]) -> Any:
    """Match the rows of these claims that are still valid."""
    by_token: dict[UUID, list[int]] = {}
    for task in tasks:
        by_token.setdefault(task.token, []).append(task.id)
    return or_(*(and_(task_outbox.c.id.in_(ids), task_outbox.c.token == token) for token, ids in by_token.items()))


def _deletion(tasks: Collection[OutboxTask]) -> Any:
    return delete(task_outbox).where(_held(tasks)).returning(task_outbox.c.id)
