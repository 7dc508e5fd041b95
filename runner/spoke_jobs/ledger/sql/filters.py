"""A :class:`~spoke_jobs.model.JobFilter` as conditions of SQL statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Text, case, false, literal, not_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANES_OF_RUNNERS, Lane, row_runner
from spoke_jobs.ledger.sql.expressions import constant, option_equals
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobFilter

_EQUAL = (
    *("runner", "organization_id", "campaign_id", "cause", "fingerprint"),
    *("unique_key", "batch_id", "schedule"),  # a subquery for other filters need not have these columns
)
"""The fields that a column of the same name must equal."""
STANDBY = "wants_standby"
"""The name of :func:`wants_standby` among the columns of a subquery."""


def conditions(which: JobFilter, subquery: Any = None) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions on a row of ``job_request``.

    :param subquery: the columns of a subquery of it, with those of :func:`compared` if there is a filter for the lane.
    """
    columns = job_request.c if subquery is None else subquery
    if which.states is not None:
        yield columns.state.in_(which.states)
    if which.job_type is not None:
        yield matching(columns.job_type, which.job_type)
    if which.queue_name is not None:
        yield matching(columns.queue_name, which.queue_name)
    for name in _EQUAL:
        if (value := getattr(which, name)) is not None:
            yield columns[name] == value
    yield from _in_lane(which.lane, subquery)
    if which.last_id is not None:
        yield columns.id <= which.last_id
    if which.first_id is not None:
        yield columns.id >= which.first_id
    if which.organizations is not None:
        yield columns.organization_id.in_(sorted(which.organizations))
    if which.other_cause_than is not None:
        yield columns.cause != which.other_cause_than
    if which.since is not None:
        yield columns.created_at >= which.since
    if which.until is not None:
        yield columns.created_at < which.until


def _in_lane(lane: str | None, subquery: Any) -> Iterator[ColumnElement[bool]]:
    if lane is None:
        return
    runner = job_request.c.runner if subquery is None else subquery.runner
    yield runner == constant(row_runner(CLUSTER_RUNNER, lane))
    if lane != Lane.WORKER:
        standby = wants_standby() if subquery is None else subquery[STANDBY]
        yield standby if lane == Lane.STANDBY else not_(standby)


def compared(which: JobFilter) -> tuple[ColumnElement[Any], ...]:
    """Return what a subquery needs besides the columns that :func:`conditions` names."""
    return () if which.lane in (None, Lane.WORKER) else (wants_standby().label(STANDBY),)


def wants_standby() -> ColumnElement[bool]:
    """Whether a job of the runner ``kubernetes`` wants a standby pod."""
    wants = option_equals(
        job_request.c.options,
        literal("lane", Text, literal_execute=True),
        literal(Lane.STANDBY.value, Text, literal_execute=True),
    )
    return case((job_request.c.runner == constant(CLUSTER_RUNNER), wants), else_=false())


def lane() -> ColumnElement[str]:
    """The lane of a job's next attempt; empty if its runner has no lanes."""
    return case(
        (wants_standby(), constant(Lane.STANDBY)),
        *((job_request.c.runner == constant(runner), constant(found)) for runner, found in LANES_OF_RUNNERS.items()),
        else_=constant(""),
    )


def matching(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Whether a column matches a pattern in which ``*`` stands for any characters."""
    if "*" not in pattern:
        return column == pattern
    like = like_pattern(pattern)
    glob = pattern.replace("[", "[[]").replace("?", "[?]")
    return matches_pattern(column, literal(like), literal(glob))


def like_pattern(pattern: str) -> str:
    """Return a pattern in which ``*`` stands for any characters as a pattern of LIKE."""
    return pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")


class matches_pattern(GenericFunction[bool]):  # noqa: N801 (an SQL function)
    """``matches_pattern(column, like, glob)``: LIKE on PostgreSQL; GLOB on SQLite, whose LIKE ignores case."""

    type = Boolean()
    inherit_cache = True
    name = "matches_pattern"


@compiles(matches_pattern)
def _matches_pattern(element: Any, compiler: Any, **keywords: Any) -> str:
    column, like, glob = element.clauses
    sqlite = compiler.dialect.name == "sqlite"
    text, pattern = (compiler.process(clause, **keywords) for clause in (column, glob if sqlite else like))
    return f"({text} {'GLOB' if sqlite else 'LIKE'} {pattern})"
