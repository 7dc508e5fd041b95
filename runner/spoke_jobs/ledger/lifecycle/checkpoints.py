"""What running attempts save for later ones: a checkpoint, and the results of steps. The caller commits.

The rows are apart from those of jobs and attempts, so claims and heartbeats neither read nor copy them.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection, delete, desc, select

from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.lifecycle.finish import lock_claim
from spoke_jobs.ledger.sql.expressions import upsert
from spoke_jobs.ledger.tables import job_checkpoint
from spoke_jobs.model import CHECKPOINT, Saved

_KEY = (job_checkpoint.c.job_id, job_checkpoint.c.name)
CHANGED = ("value", "run", "number", "saved_at")
"""The columns that saving under the same name again changes."""
COLUMNS = frozenset({"job_id", "name", *CHANGED})
"""All columns."""
_COLUMNS = [job_checkpoint.c[name] for name in Saved.__slots__]


def save(connection: Connection, token: UUID, values: Mapping[str, str]) -> None:
    """Write values by name, and lock the claim until the transaction's end.

    The claim is locked first, so a process that has lost it never waits for the rows of the one that has it.

    :raises Superseded: if the token's claim is gone.
    """
    attempt = lock_claim(connection, token)
    rows = [
        {"name": name, "value": value, "saved_at": clock_now()} | attempt._asdict() for name, value in values.items()
    ]
    new = upsert(connection, job_checkpoint).values(rows)
    changes = {column: new.excluded[column] for column in CHANGED}
    connection.execute(new.on_conflict_do_update(index_elements=list(_KEY), set_=changes))


def saved(connection: Connection, job_id: int, steps: int | None = None) -> list[Saved]:
    """Get what a job's attempts have saved: the checkpoint, and the steps in the order of their ends.

    Leave out what is too large to be read: no attempt has saved it.

    :param steps: read only so many of the newest steps.
    """
    statement = select(*_COLUMNS).where(job_checkpoint.c.job_id == job_id)
    if steps is not None:
        newest = (job_checkpoint.c.name != CHECKPOINT, desc(job_checkpoint.c.saved_at), desc(job_checkpoint.c.name))
        statement = statement.order_by(*newest).limit(steps + 1)
    rows = [Saved(*row) for row in connection.execute(statement) if row.value is not None]
    return sorted(rows, key=in_order)


def in_order(saved: Saved) -> tuple[bool, object, str]:
    """Return the key by which to sort: the checkpoint first, then the steps by the time of their ends."""
    return saved.name != "", saved.saved_at, saved.name


def clear(connection: Connection, job_id: int) -> None:
    """Delete what a job's attempts have saved."""
    connection.execute(delete(job_checkpoint).where(job_checkpoint.c.job_id == job_id))
