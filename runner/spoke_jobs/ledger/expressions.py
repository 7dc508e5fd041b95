"""SQL expressions that several statements use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ClauseElement, ColumnElement, Select, Text, and_, func, literal, null, or_, select
from sqlalchemy.dialects import postgresql

from spoke_jobs.ledger.clock import clock_now
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import RETENTION_SECONDS, AttemptState, JobState
from spoke_jobs.type_names import SUFFIX


def constant(value: str) -> Any:
    """A constant in the statement's text instead of a parameter, so that a prepared plan can use a partial index."""
    return literal(str(value), Text, literal_execute=True)


def clock_once() -> Any:
    """The clock, read once per statement, so that the condition can use an index."""
    return select(clock_now()).scalar_subquery()


def due() -> ColumnElement[bool]:
    """Whether a job's ``run_after`` has passed."""
    return or_(job_request.c.run_after.is_(None), job_request.c.run_after <= clock_now())


def within_start_timeout() -> ColumnElement[bool]:
    """Whether a job may still be started: it has been started before, or its start timeout has not expired."""
    return or_(job_request.c.start_by.is_(None), job_request.c.attempt > 0, job_request.c.start_by > clock_now())


def queue_free() -> ColumnElement[bool]:
    """Whether a job needs no queue lock, or its queue's lock is free."""
    return or_(~job_request.c.locks_queue, job_request.c.queue_name.not_in(select(queue_lock.c.queue_name)))


def unfinished() -> ColumnElement[bool]:
    """Whether a job waits or runs."""
    return job_request.c.state.in_([constant(JobState.WAITING), constant(JobState.RUNNING)])


def unfinished_with(unique_key: str | None, *columns: Any) -> Select[Any]:
    """Columns of the unfinished job that has the key."""
    return select(*columns).where(job_request.c.unique_key == unique_key, unfinished())


def live(token: UUID) -> ColumnElement[bool]:
    """The attempt that runs under the token."""
    return and_(job_attempt.c.token == token, job_attempt.c.state == AttemptState.RUNNING)


def option_seconds(name: str) -> Any:
    """An option of the row that is a number of seconds; NULL if it is not set."""
    return job_request.c.options[name].as_float()


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


def postgresql_text(value: Any) -> str:
    """Compile a value or an expression to PostgreSQL's SQL, without parameters."""
    if value is None:
        value = null()
    elif isinstance(value, str):
        value = literal(str(value), Text)
    elif not isinstance(value, ClauseElement):
        value = literal(value)
    return str(value.compile(dialect=_POSTGRESQL, compile_kwargs={"literal_binds": True}))


def assignments(changes: Mapping[str, Any]) -> str:
    """Compile the changes to the SET clause of an UPDATE on PostgreSQL."""
    return ", ".join(f"{name} = {postgresql_text(value)}" for name, value in changes.items())


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
