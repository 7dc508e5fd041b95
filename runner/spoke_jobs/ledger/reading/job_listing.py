"""Lists of jobs by id, in a bounded number of rows, whatever the filter: see :mod:`.listing_plan`.

A statement reads the next rows of one index, and then compares them with the filter: a condition of the filter could
make a plan use another index, or read on until it has found enough. Conditions on the first columns of the index are
ranges of one value, and not equalities, and the order names these columns. So only that index has the order, and no
plan reads all jobs, from the newest one down, because it takes the wanted ones for frequent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Select,
    Text,
    asc,
    cast,
    desc,
    func,
    literal,
    null,
    select,
    tuple_,
    union_all,
)

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.reading.listing_plan import (
    BY_ID,
    LOOKED_THROUGH,
    MOST_SOURCES,
    NEWEST,
    SCATTERED,
    Kind,
    ListedJob,
    Listing,
    Place,
    Source,
    Step,
    merged,
    sources,
    states_by_index,
)
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, JobFilter, JobState
from spoke_jobs.type_names import NAME_LIMIT

WHOLE_BATCH = 100_000
"""The most jobs of a batch that are all read. They were dispatched together, so that they share pages."""
_COMPARED = tuple(
    job_request.c[name]
    for name in (
        *("id", "state", "job_type", "queue_name", "runner", "organization_id", "campaign_id", "cause", "fingerprint"),
        *("unique_key", "batch_id", "schedule", "created_at"),
    )
)
"""What a filter compares."""
_WAITING = job_request.c.state == constant(JobState.WAITING)


def listing(connection: Connection, which: JobFilter, limit: int, place: Place = NEWEST) -> Listing:
    """List the next jobs that a filter selects."""
    for column, value, most in _values(which):
        if (found := _all_of(connection, which, (column, value), most, limit, place)) is not None:
            return found
    by_state = states_by_index(which) or ()
    where = sources(which, _kinds(connection) if JobState.WAITING in by_state else ())
    most = LOOKED_THROUGH if where == (BY_ID,) else SCATTERED
    read = partial(_read, connection, which, limit, place)
    return merged(where, read, limit, max(most, limit + 1), upwards=place.after is not None)


def _values(which: JobFilter) -> Iterator[tuple[ColumnElement[Any], object, int]]:
    """Yield columns whose index has no order by id, with their values, and how many rows with it are all read."""
    if which.unique_key is not None:
        yield job_request.c.unique_key, which.unique_key, SCATTERED
    if which.batch_id is not None:
        yield job_request.c.batch_id, which.batch_id, WHOLE_BATCH
    if which.schedule is not None:
        yield job_request.c.schedule, which.schedule, SCATTERED
    if which.queue_name is not None and "*" not in which.queue_name:
        yield job_request.c.queue_name, which.queue_name, SCATTERED


def _all_of(
    connection: Connection,
    which: JobFilter,
    only: tuple[ColumnElement[Any], object],
    most: int,
    limit: int,
    place: Place,
) -> Listing | None:
    """List jobs among all with the value in the column; None if these are too many."""
    column, value = only

    def some(*columns: ColumnElement[Any]) -> Select[Any]:
        return select(*columns).where(column >= value, column <= value).order_by(column).limit(number_in_text(most + 1))

    if (connection.scalar(select(func.count()).select_from(some(column).subquery())) or 0) > most:
        return None
    each = some(*_COMPARED, *filters.compared(which)).subquery().c
    statement = select(*_listed(each)).where(*filters.conditions(which, each)).limit(limit + 1)
    if place.after is not None:
        statement = statement.where(each.id > place.after).order_by(asc(each.id))
    else:
        before = () if place.before is None else (each.id < place.before,)
        statement = statement.where(*before).order_by(desc(each.id))
    found = [ListedJob(*row) for row in connection.execute(statement)]
    return Listing(tuple(found[:limit]), len(found) > limit)


def _kinds(connection: Connection) -> list[Kind]:
    """Read the kinds of the waiting jobs, or more of them than there may be sources. Each is one look into the index.

    The last one comes first. So each look comes to the newest job of a kind, and not to entries of claimed ones.
    """
    columns = (job_request.c.runner, job_request.c.rank)
    last = select(*columns).where(_WAITING).order_by(*map(desc, columns)).limit(number_in_text(1))
    found: list[Kind] = []
    row = connection.execute(last).first()
    while row is not None and len(found) <= MOST_SOURCES:
        found.append(Kind(*row))
        row = connection.execute(last.where(tuple_(*columns) < tuple(row))).first()
    return found


def _read(
    connection: Connection, which: JobFilter, limit: int, place: Place, source: Source, last: int | None, count: int
) -> Step:
    """Read the next rows of a source: the first of those that match, and how far it was read."""
    upwards = place.after is not None
    order = asc if upwards else desc
    beyond = last if last is not None else place.after if upwards else place.before
    running = source.state is JobState.RUNNING
    # Two indexes of the waiting jobs begin with the runner. If that is one value, only one of them has the order.
    owned = source.state is JobState.WAITING and "organization_id" in dict(source.prefix)
    only, prefix = source.prefix[:owned], source.prefix[owned:]
    columns: list[Any] = [job_request.c[name] for name, _ in prefix]
    columns.append(job_attempt.c.job_id if running else job_request.c.id)
    values = [value for _, value in prefix]
    lowest = -LARGEST_ID if which.first_id is None else which.first_id
    highest = LARGEST_ID if which.last_id is None else which.last_id
    if upwards and beyond is not None:
        lowest = max(lowest, min(beyond, LARGEST_ID - 1) + 1)
    elif beyond is not None:
        highest = min(highest, beyond - 1)
    rows = (
        select(*_COMPARED, *filters.compared(which))
        .where(*_of_index(source), *(job_request.c[name] == value for name, value in only))
        .where(tuple_(*columns) >= (*values, lowest), tuple_(*columns) <= (*values, highest))
        .order_by(*map(order, columns))
        .limit(number_in_text(count))
    )
    if running:  # the attempts have an index of those that run
        rows = rows.join(job_attempt, job_attempt.c.job_id == job_request.c.id)
    each = rows.cte("each_row")
    matching = select(*_listed(each.c), cast(null(), BigInteger).label("looked"))
    first = (
        matching.where(*filters.conditions(which, each.c))
        .order_by(order(each.c.id))
        .limit(number_in_text(limit + 1))
        .subquery()
    )
    nothing = literal("", Text)
    end = (func.max if upwards else func.min)(each.c.id)
    statement: CompoundSelect[Any] = union_all(
        select(first),
        select(end, nothing, nothing, nothing, nothing, func.count(each.c.id)),
    )
    jobs, reached, looked = [], 0, 0
    for *job, number in connection.execute(statement):
        if number is None:
            jobs.append(ListedJob(*job))
        else:
            reached, looked = job[0] or 0, number
    return Step(jobs, reached, looked)


def _of_index(source: Source) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of the source's index, in its words."""
    names = {name for name, _ in source.prefix}
    if source.state is not None and "state" in names:  # not only one: the indexes of the failed have no organization
        yield job_request.c.state.in_([constant(state) for state in JobState if state.final])
    elif source.state is not None:
        yield job_request.c.state == constant(source.state)
    if source.state is JobState.RUNNING:
        yield job_attempt.c.state == constant(AttemptState.RUNNING)
    if "organization_id" in names:
        yield job_request.c.organization_id.is_not(None)
    if "job_type" in names:
        yield func.length(job_request.c.job_type) <= literal(NAME_LIMIT, Integer, literal_execute=True)


def _listed(columns: Any) -> Iterator[ColumnElement[Any]]:
    return (columns[name] for name in ListedJob._fields)
