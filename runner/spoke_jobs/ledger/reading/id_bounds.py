"""Turn times into bounds on ids, because the times of dispatches and claims have no index.

Jobs get their ids in the order of their dispatch, attempts in that of their claims. So a binary search finds where a
time lies among them: each step is a look by primary key. One statement does all of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, and_, case, func, literal, select

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.sql.expressions import number_in_text
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobFilter

_MARGIN = timedelta(hours=1)
"""A statement that writes many jobs, or a clock that was set, may put some of them out of order by less than this."""
_OF_JOBS = (job_request.c.id, job_request.c.created_at)


def bounded_by_ids(connection: Connection, which: JobFilter) -> JobFilter:
    """Return the filter with bounds on ids that follow from its times.

    It selects the same jobs, unless an id is further from the order of the times than :data:`_MARGIN`.
    """
    since, until = which.since, which.until
    if since is None and until is None:
        return which
    lowest, highest = connection.execute(select(func.min(job_request.c.id), func.max(job_request.c.id))).one()
    if lowest is None:
        return which
    first, last = which.first_id, which.last_id
    if since is not None and since - datetime.min.replace(tzinfo=since.tzinfo) > _MARGIN:
        found = first_since(connection, _OF_JOBS, since - _MARGIN, lowest, highest)
        first = found if first is None else max(first, found)
    if until is not None and datetime.max.replace(tzinfo=until.tzinfo) - until > _MARGIN:
        found = first_since(connection, _OF_JOBS, until + _MARGIN, lowest, highest) - 1
        last = found if last is None else min(last, found)
    return which.evolve(first_id=first, last_id=last)


def first_since(
    connection: Connection, columns: tuple[Column[Any], Column[Any]], time: datetime, lowest: int, highest: int
) -> int:
    """Return the id from which on rows have that time or a later one; one beyond the highest if there is none.

    :param columns: the primary key, and the time that grows with it.
    :param lowest: the lowest id of a row.
    :param highest: the highest one.
    """
    ids, times = columns
    beyond = min(highest, LARGEST_ID - 1) + 1
    first = max(lowest, beyond - LARGEST_ID)  # the database computes the distance of both
    begin = select(literal(first, BigInteger).label("below"), literal(beyond, BigInteger).label("end"))
    step = begin.cte("step", recursive=True)
    middle = step.c.below + (step.c.end - step.c.below) // 2
    next_row = select(ids).where(ids >= middle).order_by(ids).limit(number_in_text(1)).correlate(step)
    next_id, next_time = next_row.scalar_subquery(), next_row.with_only_columns(times).scalar_subquery()
    is_before = next_time < literal(time, times.type)  # not if there is no row
    below = case((and_(is_before, next_id < step.c.end), next_id + 1), (is_before, step.c.end), else_=step.c.below)
    end = case((is_before, step.c.end), else_=middle)
    step = step.union_all(select(below, end).where(step.c.below < step.c.end))
    found: int = connection.execute(select(step.c.below).where(step.c.below >= step.c.end)).scalar_one()
    return found
