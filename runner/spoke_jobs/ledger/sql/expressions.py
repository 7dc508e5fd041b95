"""SQL expressions that several statements use, and how their INSERTs begin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ClauseElement,
    ColumnElement,
    Connection,
    Float,
    Integer,
    ScalarSelect,
    Select,
    Table,
    Text,
    and_,
    case,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from spoke_jobs.contract.limit_scopes import Dimension, Scope, ScopeKind
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.columns.column_types import JSON_LIMIT_BYTES
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import RETENTION_SECONDS, UNFINISHED, AttemptState, JobState
from spoke_jobs.type_names import SUFFIX


def constant(value: str) -> Any:
    """A constant in the statement's text instead of a parameter, so that a prepared plan can use a partial index."""
    return literal(str(value), Text, literal_execute=True)


def number_in_text(count: int) -> Any:
    """A number in the statement's text, for LIMIT: a plan for any number assumes a tenth of all rows."""
    return literal(count, Integer, literal_execute=True)


def clock_once(after_seconds: float = 0.0) -> ScalarSelect[datetime]:
    """The clock, read once per statement, so that the condition can use an index; so many seconds later."""
    return select(clock_after(after_seconds) if after_seconds else clock_now()).scalar_subquery()


def due_since(columns: Any = job_request.c) -> ColumnElement[datetime]:
    """Since when a job has been due, or when it will be: a time before its dispatch counts as its dispatch.

    :param columns: those of ``job_request``.
    """
    return later_of(columns.run_after, columns.created_at)


def due_of_first(job_id: ColumnElement[int], run: ColumnElement[int]) -> ScalarSelect[datetime]:
    """Since when the first attempt of a run had been due; NULL if there is none, or an earlier release claimed it."""
    first = job_attempt.alias("first_attempt").c
    of_run = select(first.due_at).where(first.job_id == job_id, first.run == run)
    return of_run.order_by(first.number).limit(number_in_text(1)).scalar_subquery()


def unfinished() -> ColumnElement[bool]:
    """Whether a job has not ended."""
    return job_request.c.state.in_([constant(state) for state in UNFINISHED])


def unsettled() -> ColumnElement[bool]:
    """Whether a job has ended, and the jobs that depend on it have not all been unblocked or failed."""
    return and_(
        job_request.c.awaited,
        job_request.c.state.in_([constant(JobState.SUCCEEDED), constant(JobState.FAILED)]),
    )


def later_of(column: ColumnElement[Any], other: Any) -> ColumnElement[Any]:
    """The later one of two times; ``other`` if the column is NULL."""
    return case((column > other, column), else_=other)


def unfinished_with(unique_key: str | None, *columns: Any) -> Select[Any]:
    """Columns of the unfinished job that has the key."""
    return select(*columns).where(job_request.c.unique_key == unique_key, unfinished())


def live(token: UUID) -> ColumnElement[bool]:
    """The attempt that runs under the token."""
    return and_(job_attempt.c.token == token, job_attempt.c.state == AttemptState.RUNNING)


class option_number(GenericFunction[float]):  # noqa: N801 (an SQL function)
    """``option_number(options, name)``: an option that is a number from 0; NULL for anything else.

    Other code may have written the row, and an error would stop the statement for all rows. Options that are too large
    to be read have no number.
    """

    type = Float()
    inherit_cache = True
    name = "option_number"


@compiles(option_number)
def _option_number(element: Any, compiler: Any, **keywords: Any) -> str:
    options, name = (compiler.process(clause, **keywords) for clause in element.clauses)
    if compiler.dialect.name == "sqlite":
        path = f"'$.' || {name}"
        is_number = f"json_valid({options}) AND json_type({options}, {path}) IN ('integer', 'real')"
        return f"(CASE WHEN {is_number} THEN json_extract({options}, {path}) END)"
    # A regular expression, because ``->>`` fails if any string in the options has an escape such as \\u0000.
    number = """'"\\s*:\\s*([0-9]{1,11}([.][0-9]{1,20})?(e-[0-9]{1,2})?)\\s*[,}]'"""
    found = f"cast(substring(cast({options} AS text) from '\"' || {name} || {number}) AS double precision)"
    return f"(CASE WHEN pg_column_size({options}) <= {JSON_LIMIT_BYTES} THEN {found} END)"


class option_equals(GenericFunction[bool]):  # noqa: N801 (an SQL function)
    """``option_equals(options, name, value)``: whether an option is a text, without escapes. False if it is not set.

    As for :class:`option_number`, options that other code has written must cause no error. Those that are too large to
    be read, or that have a character that PostgreSQL refuses, equal nothing.
    """

    type = Boolean()
    inherit_cache = True
    name = "option_equals"


@compiles(option_equals)
def _option_equals(element: Any, compiler: Any, **keywords: Any) -> str:
    options, name, value = (compiler.process(clause, **keywords) for clause in element.clauses)
    if compiler.dialect.name == "sqlite":
        path = f"'$.' || {name}"
        equals = f"coalesce(json_extract({options}, {path}) = {value}, 0)"
        return f"(CASE WHEN json_valid({options}) THEN {equals} ELSE 0 END)"
    text, escape = f"cast({options} AS text)", r"\\u(0000|[dD][89a-fA-F])"
    within = f"pg_column_size({options}) <= {JSON_LIMIT_BYTES}"
    # Most options are not parsed: a search for the value takes less time. An escape could make ``->>`` fail.
    found = f"(CASE WHEN {text} ~ '{escape}' THEN false ELSE coalesce({options} ->> {name} = {value}, false) END)"
    quoted = f"""'"' || {value} || '"'"""
    return f"(CASE WHEN {within} AND strpos({text}, {quoted}) > 0 THEN {found} ELSE false END)"


class minutes_between(GenericFunction[int]):  # noqa: N801 (an SQL function)
    """``minutes_between(since, until)``: the whole minutes between two times that are not more than some years apart.

    NULL if SQLite cannot read one of them.
    """

    type = Integer()
    inherit_cache = True
    name = "minutes_between"


@compiles(minutes_between)
def _minutes_between(element: Any, compiler: Any, **keywords: Any) -> str:
    since, until, sqlite = _times_of(element, compiler, keywords)
    if sqlite:
        return f"((strftime('%s', {until}) - strftime('%s', {since})) / 60)"
    return f"cast(floor(extract(epoch FROM {until} - {since}) / 60) AS integer)"


def _times_of(element: Any, compiler: Any, keywords: dict[str, Any]) -> tuple[str, str, bool]:
    """Return the SQL of a function's two times, and whether it is for SQLite."""
    since, until = (compiler.process(clause, **keywords) for clause in element.clauses)
    return since, until, compiler.dialect.name == "sqlite"


class seconds_between(GenericFunction[float]):  # noqa: N801 (an SQL function)
    """``seconds_between(since, until)``: the seconds between two times, neither of which is infinite.

    NULL if SQLite cannot read one of them.
    """

    type = Float()
    inherit_cache = True
    name = "seconds_between"


@compiles(seconds_between)
def _seconds_between(element: Any, compiler: Any, **keywords: Any) -> str:
    since, until, sqlite = _times_of(element, compiler, keywords)
    if sqlite:
        return f"round((julianday({until}) - julianday({since})) * 86400.0, 3)"  # days have no more digits
    return f"cast(extract(epoch FROM {until} - {since}) AS double precision)"


LARGEST_COUNT = 2**31 - 2
"""Counts in rows end here, because the column's type has an end. Other code may have written one."""


_NAMED = 100
"""If more limits than this name a queue, for example, jobs are told apart by all queues."""


def increased(count: ColumnElement[int], by: Any = 1) -> ColumnElement[int]:
    """The count and one more, or some other small number; the count itself at the end of the column's type."""
    return case((count <= LARGEST_COUNT - by, count + by), else_=count)


def option_seconds(name: str) -> Any:
    """An option of the row that is a number of seconds; NULL if it is not set."""
    return option_number(job_request.c.options, literal(name, Text, literal_execute=True))


def retention() -> ColumnElement[Any]:
    """The row's retention in seconds."""
    return func.coalesce(option_seconds("retentionSeconds"), RETENTION_SECONDS)


def known_in_sql(column: ColumnElement[str], types: Collection[str]) -> ColumnElement[bool]:
    """Whether the column holds one of the names, or begins with one of the prefixes (``ingest.*``)."""
    exact = [name for name in types if not name.endswith(SUFFIX)]
    prefixes = [name.removesuffix("*") for name in types if name.endswith(SUFFIX)]
    conditions: list[Any] = [column.in_(exact)]
    # Not LIKE, which ignores case on SQLite.
    conditions += [func.substr(column, 1, len(prefix)) == prefix for prefix in prefixes]
    return or_(*conditions)


def counted_column(dimension: Dimension, limited: Collection[ScopeKind]) -> ColumnElement[Any]:
    """Return the queue of a job, for example, if there is a limit on queues. Only then do jobs differ by it."""
    column = job_request.c[dimension.field]
    if dimension.kinds.intersection(limited):
        return column
    return null() if column.nullable else literal("")


def limited_column(dimension: Dimension, scopes: Collection[Scope]) -> ColumnElement[Any]:
    """Return the queue of a job, for example, if a limit names it. Jobs of all other queues do not differ by it.

    :param scopes: those of the limits.
    """
    column = counted_column(dimension, {scope.kind for scope in scopes})
    names = {scope.name for scope in scopes if scope.kind is dimension.kind}
    values: list[Any] = sorted(map(int, names)) if dimension.is_number else sorted(names)
    if dimension.is_number:
        values = [value for value in values if value <= LARGEST_COUNT]  # no column holds a larger one
    if not values or len(values) > _NAMED or any(scope.kind is dimension.each for scope in scopes):
        return column
    return case((column.in_(values), column), else_=null() if column.nullable else literal(""))


def like_patterns(types: Collection[str]) -> list[str]:
    """Return the prefixes like ``ingest.*`` as patterns of LIKE."""
    return [_escaped(name.removesuffix("*")) + "%" for name in types if name.endswith(SUFFIX)]


def _escaped(prefix: str) -> str:
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def postgresql_text(value: Any) -> str:
    """Compile a value or an expression to PostgreSQL's SQL, without parameters."""
    if value is None:
        value = null()
    elif isinstance(value, str):
        value = literal(str(value), Text)
    elif not isinstance(value, ClauseElement):
        value = literal(value)
    return str(value.compile(dialect=_POSTGRESQL, compile_kwargs={"literal_binds": True}))


def array_text(values: Iterable[str | int | UUID | None]) -> str:
    """Return the text of an array (PostgreSQL), for a parameter that the statement casts.

    The driver takes several times as long to convert a list. It also prepares a statement anew for each combination of
    the types that it finds for the elements of its lists.
    """
    return f"{{{','.join(map(_element_text, values))}}}"


def _element_text(value: str | int | UUID | None) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def assignments(changes: Mapping[str, Any]) -> str:
    """Compile the changes to the SET clause of an UPDATE on PostgreSQL."""
    return ", ".join(f"{name} = {postgresql_text(value)}" for name, value in changes.items())


def upsert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT to which ``on_conflict_do_nothing`` or ``on_conflict_do_update`` can be added."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
