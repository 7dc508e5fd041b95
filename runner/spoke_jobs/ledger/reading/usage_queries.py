"""What the newest successful jobs of each type used, for `sizes`. Each query reads the newest rows of an index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    desc,
    func,
    literal,
    literal_column,
    select,
)

from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import ANY_JOB, USAGE_FIELDS, AttemptState, AttemptUsage, JobFilter, JobOptions, JobState
from spoke_jobs.type_names import NAME_LIMIT, matches

NEWEST_SUCCESSES = 100
"""The most successes of a type that are read. Filters other than the type select some of them."""
_USUAL_OF = 20
"""Of how many successes of a type the median time is usual, at most."""
_ENOUGH = 3
"""And at least."""
TYPES = 1000
"""The most types that are examined."""

SUCCEEDED = (
    job_request.c.state == constant(JobState.SUCCEEDED),
    func.length(job_request.c.job_type) <= literal(NAME_LIMIT, Integer, literal_execute=True),
)
"""The rows of the index `ix_job_request_succeeded`."""
_FILTERED = ("queue_name", "runner", "organization_id", "campaign_id", "cause", "fingerprint", "state", "created_at")
_READ = tuple(job_request.c[name] for name in ("id", "run", "attempt", *_FILTERED))


@dataclass(frozen=True, slots=True)
class TypeUsage:
    """What the newest successes of a type used."""

    job_type: str
    options: JobOptions | None
    """Those of the newest success; None if the filter selects none."""
    usages: tuple[AttemptUsage, ...]
    """Of each success, the newest first."""


def usage_by_type(connection: Connection, which: JobFilter) -> list[TypeUsage]:
    """Return the types that have successes and that the filter selects, by name, with what these used."""
    return [usage_of(connection, name, which) for name in _types(connection, which.job_type)]


def _types(connection: Connection, wanted: str | None) -> Iterator[str]:
    """Yield the types that have successes. Each step reads one entry of the index."""
    column = job_request.c.job_type
    if wanted is not None and "*" not in wanted:
        yield from connection.scalars(select(column).where(*SUCCEEDED, column == wanted).limit(1))
        return
    last = ""
    for _ in range(TYPES):
        following = select(column).where(*SUCCEEDED, column > last).order_by(column).limit(1)
        found = connection.scalar(following)
        if found is None or found == last:  # the same one again: other code wrote characters that are read as others
            return
        last = found
        if wanted is None or matches(found, wanted):
            yield found


def usage_of(connection: Connection, job_type: str, which: JobFilter = ANY_JOB) -> TypeUsage:
    """Return what the newest successes of one type used, of those that the filter selects.

    :param job_type: its name. A ``*`` in it, which other code may have written, stands for itself.
    """
    newest = (
        select(*_READ)
        .where(*SUCCEEDED, job_request.c.job_type == job_type)
        .order_by(desc(job_request.c.id))
        .limit(literal_column(str(NEWEST_SUCCESSES)))
        .subquery()
    )
    attempt = and_(
        job_attempt.c.job_id == newest.c.id,
        job_attempt.c.run == newest.c.run,
        job_attempt.c.number == newest.c.attempt,
        job_attempt.c.state == constant(AttemptState.SUCCEEDED),
    )
    statement = (
        select(newest.c.id, *(job_attempt.c[name] for name in USAGE_FIELDS))
        .select_from(newest.outerjoin(job_attempt, attempt))
        .where(*filters.conditions(which.evolve(job_type=None), newest.c))
        .order_by(desc(newest.c.id))
    )
    rows = connection.execute(statement).all()
    options = _options(connection, rows[0].id) if rows else None
    return TypeUsage(job_type, options, tuple(AttemptUsage(*row[1:]) for row in rows))


def newest_successes(
    connection: Connection, types: Sequence[str], most: int, read: Callable[[FromClause], Select[Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield what is read of the newest successes of each of some types: the type, and a value.

    On PostgreSQL this is one statement. SQLite has no lateral subqueries, and is asked about each type.

    :param most: the most successes of each type.
    :param read: selects from them. They have the columns ``name``, of the type, ``id``, ``run`` and ``attempt``.
    """

    def newest(name: ColumnElement[str]) -> Select[Any]:
        return (
            select(name.label("name"), *(job_request.c[column] for column in ("id", "run", "attempt")))
            .where(*SUCCEEDED, job_request.c.job_type == name)
            .order_by(desc(job_request.c.id))
            .limit(number_in_text(most))
        )

    if connection.dialect.name == "postgresql":
        wanted = func.unnest(literal(list(types), ARRAY(Text))).table_valued("name").render_derived(name="wanted")
        statements = [read(newest(wanted.c.name).lateral("newest")).select_from(wanted)]
    else:
        statements = [read(newest(literal(name, Text)).subquery("newest")) for name in types]
    for statement in statements:
        yield from ((name, value) for name, value in connection.execute(statement))


def usual_seconds(connection: Connection, types: Collection[str]) -> dict[str, float]:
    """Return the median time of the newest successes of each type, of those that are not few, by type."""

    def measured(newest: FromClause) -> Select[Any]:
        return select(newest.c.name, job_attempt.c.wall_milliseconds).where(
            job_attempt.c.job_id == newest.c.id,
            job_attempt.c.run == newest.c.run,
            job_attempt.c.number == newest.c.attempt,
            job_attempt.c.state == constant(AttemptState.SUCCEEDED),
            job_attempt.c.wall_milliseconds.is_not(None),
        )

    times: dict[str, list[float]] = {}
    if types:
        for name, milliseconds in newest_successes(connection, sorted(set(types)), _USUAL_OF, measured):
            times.setdefault(name, []).append(milliseconds / 1000)
    return {name: median(found) for name, found in times.items() if len(found) >= _ENOUGH}


def _options(connection: Connection, job_id: int) -> JobOptions:
    """Read the options of one job. Other code may have written such that those of a hundred take much memory."""
    stored = connection.scalar(select(job_request.c.options).where(job_request.c.id == job_id))
    return JobOptions.from_json(stored if isinstance(stored, dict) else {})
