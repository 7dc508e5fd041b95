"""Delete finished jobs whose retention is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from spoke_jobs.ledger.audit.audit_events import prune_events
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.dependencies.dependency_rows import forget, needed_by_unfinished
from spoke_jobs.ledger.engine import is_locked
from spoke_jobs.ledger.sql.expressions import clock_once, constant
from spoke_jobs.ledger.sql.filters import conditions
from spoke_jobs.ledger.sql.lock_patience import wait_no_more
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import ANY_JOB, JobFilter, JobState

_DAY = 86_400.0
_TEN_MINUTES = 600.0


class Pruned(NamedTuple):
    """The result of one batch."""

    deleted: int
    examined: int
    last: int
    """The id of the last row examined."""


def prune(
    connection: Connection,
    limit: int,
    older_than_seconds: float | None = None,
    above: int = 0,
    which: JobFilter = ANY_JOB,
) -> Pruned:
    """Delete finished rows whose retention is over, oldest first.

    With ``older_than_seconds``, delete instead the rows that ended longer ago than that, by ascending id. If a table of
    the application refers to a row, or another transaction has locked what belongs to it, the row stays, and is
    examined again a day or ten minutes later.

    :param above: with ``older_than_seconds``, examine only rows with a higher id, to skip rows that cannot be deleted.
    """
    over = select(job_request.c.id).where(*prunable(older_than_seconds, which)).limit(limit)
    over = over.with_for_update(skip_locked=True)
    if older_than_seconds is None:
        over = over.order_by(job_request.c.expires_at)
    else:
        over = over.where(job_request.c.id > above).order_by(job_request.c.id)
    ids = list(connection.scalars(over))
    if older_than_seconds is None:
        prune_events(connection)
        batch_rows.prune(connection)
    if not ids:
        return Pruned(0, 0, above)
    if _delete(connection, ids) is None:
        return Pruned(len(ids), len(ids), ids[-1])
    kept: defaultdict[float, list[int]] = defaultdict(list)
    for job_id in ids:
        if (seconds := _delete(connection, [job_id])) is not None:
            kept[seconds].append(job_id)
    for seconds, stay in kept.items():
        later = update(job_request).where(job_request.c.id.in_(stay)).values(expires_at=clock_after(seconds))
        connection.execute(later)
    return Pruned(len(ids) - sum(map(len, kept.values())), len(ids), ids[-1])


def prunable(older_than_seconds: float | None, which: JobFilter = ANY_JOB) -> list[ColumnElement[bool]]:
    """Return the conditions on the rows that :func:`prune` deletes."""
    final = job_request.c.state.in_([constant(JobState.SUCCEEDED), constant(JobState.FAILED)])
    if older_than_seconds is None:
        ended = job_request.c.expires_at < clock_once()
    else:  # a rare command by hand, so it has no index of its own
        ended = job_request.c.finished_at < clock_after(-older_than_seconds)
    return [final, ended, ~needed_by_unfinished(), *conditions(which)]


def _delete(connection: Connection, ids: Collection[int]) -> float | None:
    """Delete rows. If that is refused, return after how many seconds to try again."""
    try:
        with connection.begin_nested():
            forget(connection, ids)
            connection.execute(delete(job_request).where(job_request.c.id.in_(ids)))
    except IntegrityError:
        return _DAY
    except OperationalError as error:
        if not is_locked(error):
            raise
        wait_no_more(connection)
        return _TEN_MINUTES
    return None
