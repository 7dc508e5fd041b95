"""Delete finished jobs whose retention is over."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import IntegrityError

from spoke_jobs.ledger.clock import clock_after
from spoke_jobs.ledger.expressions import clock_once, constant
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState

_DAY = 86_400.0


class Pruned(NamedTuple):
    """The result of one batch."""

    deleted: int
    examined: int
    last: int
    """The id of the last row examined."""


def prune(
    connection: Connection,
    limit: int,
    runner: str | None = None,
    older_than_seconds: float | None = None,
    above: int = 0,
) -> Pruned:
    """Delete finished rows whose retention is over, oldest first.

    With ``older_than_seconds``, delete instead the rows that ended longer ago than that, by id. If a table of the
    application refers to a row, the row stays, and is examined again a day later.

    :param above: with ``older_than_seconds``, examine only rows with a higher id, to skip a batch that stayed.
    """
    of_runner = [job_request.c.runner == runner] if runner is not None else []
    which = [job_request.c.state.in_([constant(JobState.SUCCEEDED), constant(JobState.FAILED)]), *of_runner]
    over = select(job_request.c.id).limit(limit).with_for_update(skip_locked=True)
    if older_than_seconds is None:
        over = over.where(job_request.c.expires_at < clock_once(), *which).order_by(job_request.c.expires_at)
    else:  # a rare command by hand, so it has no index of its own
        ended = job_request.c.finished_at < clock_after(-older_than_seconds)
        over = over.where(ended, job_request.c.id > above, *which).order_by(job_request.c.id)
    ids = list(connection.scalars(over))
    if not ids:
        return Pruned(0, 0, above)
    if _deleted(connection, ids):
        return Pruned(len(ids), len(ids), ids[-1])
    kept = [job_id for job_id in ids if not _deleted(connection, [job_id])]
    later = update(job_request).where(job_request.c.id.in_(kept)).values(expires_at=clock_after(_DAY))
    connection.execute(later)
    return Pruned(len(ids) - len(kept), len(ids), ids[-1])


def _deleted(connection: Connection, ids: Collection[int]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(delete(job_request).where(job_request.c.id.in_(ids)))
    except IntegrityError:
        return False
    return True
