"""The rows in which replicas of the task deployment say that they are alive, and how many of their slots are in use.

Nothing depends on these rows but what people read.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.sql.expressions import number_in_text, upsert
from spoke_jobs.ledger.tables import task_replica

SIGN_SECONDS = 10.0
"""How often a replica writes its row."""
FORGOTTEN_SECONDS = 3600.0
"""For how long the row of a replica that has died is kept."""


class SlotUse(NamedTuple):
    """The slots of a replica: as many for ``def`` tasks as for ``async def`` ones."""

    slots: int
    used: int
    """By ``def`` tasks."""
    used_async: int


class TaskReplica(NamedTuple):
    """What a replica has said last."""

    name: str
    started_at: datetime
    seen_at: datetime
    slots: int
    used: int
    used_async: int


def sign(connection: Connection, name: str, use: SlotUse, *, age_seconds: float, first: bool) -> None:
    """Write the row of a replica, and delete those of replicas that died long ago.

    :param age_seconds: for how long its process has run.
    :param first: whether the process has not signed so far. The container that was restarted before had the same name.
    """
    started = clock_after(-age_seconds)
    values = {"seen_at": clock_now(), **use._asdict()}
    new = upsert(connection, task_replica).values(name=name, started_at=started, **values)
    put = new.on_conflict_do_update(index_elements=["name"], set_=values | ({"started_at": started} if first else {}))
    connection.execute(put)
    connection.execute(delete(task_replica).where(task_replica.c.seen_at < clock_after(-FORGOTTEN_SECONDS)))


def sign_off(connection: Connection, name: str) -> None:
    """Delete the row of a replica that stops."""
    connection.execute(delete(task_replica).where(task_replica.c.name == name))


def replicas(connection: Connection, limit: int) -> list[TaskReplica]:
    """Read what replicas have said last, by name, without those that are forgotten: nobody may delete their rows."""
    columns = [task_replica.c[name] for name in TaskReplica._fields]
    remembered = select(*columns).where(task_replica.c.seen_at >= clock_after(-FORGOTTEN_SECONDS))
    rows = connection.execute(remembered.order_by(task_replica.c.name).limit(number_in_text(limit)))
    return [TaskReplica(*row) for row in rows]
