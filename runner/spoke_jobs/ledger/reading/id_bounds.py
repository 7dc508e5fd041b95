"""Turn the times of a filter into bounds on ids, because the dispatch's time has no index.

Jobs get their ids in the order of their dispatch. So a binary search finds where a time lies among them: each step is
one look by primary key.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobFilter

_MARGIN = timedelta(hours=1)
"""A statement that writes many jobs, or a clock that was set, may put some of them out of order by less than this."""


def bounded_by_ids(connection: Connection, which: JobFilter) -> JobFilter:
    """Return the filter with bounds on ids that follow from its times. It selects the same jobs."""
    since, until = which.since, which.until
    if since is None and until is None:
        return which
    lowest, highest = connection.execute(select(func.min(job_request.c.id), func.max(job_request.c.id))).one()
    if lowest is None:
        return which
    first, last = which.first_id, which.last_id
    if since is not None and since - datetime.min.replace(tzinfo=since.tzinfo) > _MARGIN:
        found = _first_since(connection, since - _MARGIN, lowest, highest)
        first = found if first is None else max(first, found)
    if until is not None and datetime.max.replace(tzinfo=until.tzinfo) - until > _MARGIN:
        found = _first_since(connection, until + _MARGIN, lowest, highest) - 1
        last = found if last is None else min(last, found)
    return which.evolve(first_id=first, last_id=last)


def _first_since(connection: Connection, time: datetime, lowest: int, highest: int) -> int:
    """Return the id from which on jobs were dispatched at that time or later; one beyond the highest if there is none.

    :param lowest: the lowest id of a job.
    :param highest: the highest one.
    """
    next_job = select(job_request.c.id, job_request.c.created_at).order_by(job_request.c.id).limit(1)
    below, end = lowest, highest + 1
    while below < end:
        middle = (below + end) // 2
        row = connection.execute(next_job.where(job_request.c.id >= middle)).first()
        if row is None or row.created_at >= time:
            end = middle
        else:
            below = row.id + 1
    return below
