"""The INSERT of a job, which every dispatch uses.

It writes the columns that a dispatch sets (:class:`~spoke_jobs.model.DispatchedRow`) and those of ``_GENERATED``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Connection,
    Dialect,
    Float,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from spoke_jobs.contract.executors import REFERENCE
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, UTCDateTime, clock_after, clock_now
from spoke_jobs.ledger.columns.lenient import in_utc
from spoke_jobs.ledger.lifecycle.transitions import (
    dispatched,
    job_replaced,
    may_be_replaced,
    new_request,
    start_deadline,
)
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, read_job, to_request, to_row
from spoke_jobs.ledger.sql.expressions import unfinished, unfinished_with
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import DispatchedRow, JobOptions, JobRequest, JobState, NewJob

_TRIES = 5
_SERIALIZATION_STATES = {"40P01", "40001"}
"""PostgreSQL's deadlock_detected and serialization_failure."""
_GENERATED = {
    "state": case(
        (bindparam("blocked", type_=Boolean), literal_column(f"'{JobState.BLOCKED}'")),
        else_=literal_column(f"'{JobState.WAITING}'"),
    ),
    "start_by": func.coalesce(
        bindparam("start_at", type_=UTCDateTime), clock_after(bindparam("start_timeout", type_=Float))
    ),
    "created_at": clock_now(),
    "updated_at": clock_now(),
}
_GIVEN = {field.name for field in fields(DispatchedRow)}
COLUMNS = frozenset(
    {column.name for field, column in zip(fields(JobRequest), job_request.c, strict=True) if field.name in _GIVEN}
    | {"uid", *_GENERATED}
)
"""The columns that a dispatch writes."""
OF_SCHEDULE = frozenset({"schedule", "scheduled_for"})
"""Those of them that only a schedule's process writes."""
_INSERT = (
    insert(job_request)
    .values(_GENERATED)
    .returning(*(job_request.c[name] for name in ("id", "created_at", "updated_at", "start_by")))
)
_INSERT_UNIQUE = {
    name: dialect.insert(job_request)
    .values(_GENERATED)
    .on_conflict_do_nothing(
        index_elements=[job_request.c.unique_key],
        index_where=and_(job_request.c.unique_key.is_not(None), unfinished()),
    )
    .returning(*REQUEST_COLUMNS)
    for name, dialect in (("postgresql", postgresql), ("sqlite", sqlite))
}


_LOCK_KEY = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 1836017003))")
"""Until the transaction's end, no other dispatch with ``unique_for`` looks for a job with this key."""


def insert_jobs(connection: Connection, new: Sequence[NewJob]) -> list[JobRequest]:
    """Write jobs. If another job has the unique key of one, return that job instead, changed if the new one says so.

    Unique keys are taken in sorted order, so that two calls cannot deadlock.

    :returns: the rows in the order given.
    :raises UniquenessConflict: if another transaction takes the same keys in another order.
    """
    unique = sorted((job.unique_key, index) for index, job in enumerate(new) if job.unique_key is not None)
    written = {index: _insert_unique(connection, new[index]) for _, index in unique}
    plain = [index for index in range(len(new)) if index not in written]
    if plain:
        written |= dict(zip(plain, _insert_plain(connection, [new[index] for index in plain]), strict=True))
    return [written[index] for index in range(len(new))]


def _insert_plain(connection: Connection, new: Sequence[NewJob]) -> list[JobRequest]:
    given = [dispatched(job) for job in new]
    parameters = [_parameters(job, values) for job, values in zip(new, given, strict=True)]
    absent = {"unique_key"} | (OF_SCHEDULE if all(job.schedule is None for job in new) else frozenset())
    for values in parameters:
        for name in absent:  # NULL
            del values[name]
    dialect = connection.dialect
    if len(new) == 1 and dialect.name == "postgresql" and dialect.driver in ("psycopg", "psycopg_async"):
        # Preparing the statement in SQLAlchemy costs more than the database does.
        one = parameters[0] | {"options": json.dumps(parameters[0]["options"])}
        returned = {one["uid"]: connection.exec_driver_sql(_compiled(dialect, tuple(one)), one).one()}
    else:
        rows = connection.execute(_INSERT.returning(job_request.c.uid), parameters)
        returned = {row.uid: row for row in rows}
    return [
        _written(values, parameter, returned[parameter["uid"]])
        for values, parameter in zip(given, parameters, strict=True)
    ]


def _parameters(new: NewJob, given: dict[str, Any]) -> dict[str, Any]:
    fixed, seconds = start_deadline(new)
    return to_row(given) | {
        "uid": new.uid or uuid.uuid4(),
        "blocked": new.open_dependencies > 0,
        "start_at": fixed,
        "start_timeout": seconds,
        **({} if new.id is None else {"id": new.id}),
    }


def _written(given: dict[str, Any], parameters: dict[str, Any], row: Any) -> JobRequest:
    return new_request(
        # Read the options back from JSON, so that the result is what every later reader gets.
        given | {"options": JobOptions.from_json(parameters["options"])},
        id=row.id,
        uid=parameters["uid"],
        start_by=row.start_by and in_utc(row.start_by),
        created_at=in_utc(row.created_at),
        updated_at=in_utc(row.updated_at),
    )


@lru_cache
def _compiled(dialect: Dialect, names: tuple[str, ...]) -> str:
    """Compile the INSERT to the driver's SQL."""
    return str(_INSERT.compile(dialect=dialect, column_keys=list(names)))


def _insert_unique(connection: Connection, new: NewJob) -> JobRequest:
    statement = _INSERT_UNIQUE[connection.dialect.name]
    parameters = _parameters(new, dispatched(new))
    if new.schedule is None:  # the role of jobs may not write these columns
        parameters = {name: value for name, value in parameters.items() if name not in OF_SCHEDULE}
    holder = unfinished_with(new.unique_key, *REQUEST_COLUMNS)
    try:
        if new.unique_for is not None and connection.dialect.name == "postgresql":
            connection.execute(_LOCK_KEY, {"key": new.unique_key})
        for _ in range(_TRIES):
            # A job that is unfinished here may have ended before the INSERT below, which would not see it.
            if new.unique_for is not None and (earlier := _earlier(connection, new, new.unique_for)) is not None:
                if (job := _replaced(connection, earlier, new)) is not None:
                    return job
                continue
            row = connection.execute(statement, parameters).mappings().one_or_none()
            if row is not None:
                return to_request(row)
            row = connection.execute(holder).mappings().one_or_none()
            if row is not None and (job := _replaced(connection, to_request(row), new)) is not None:
                return job
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") in _SERIALIZATION_STATES:
            raise UniquenessConflict(
                f"another transaction takes the unique_key {new.unique_key!r} as well, and this one can't go on: "
                "the two take several keys in opposite orders, or this one reads an older snapshot of the database. "
                "Roll back and dispatch again. A single dispatch_jobs() call takes all its keys in one order"
            ) from error
        raise
    # In each try, the job that had the key ended or changed between the two statements.
    raise UniquenessConflict(
        f"other jobs took and released the unique_key {new.unique_key!r} during each of {_TRIES} tries: dispatch again"
    )


def _earlier(connection: Connection, new: NewJob, seconds: float) -> JobRequest | None:
    """Return the newest job with the same key that is unfinished, or was dispatched within this time and succeeded."""
    recent = and_(job_request.c.state == JobState.SUCCEEDED, job_request.c.created_at > clock_after(-seconds))
    statement = (
        select(*REQUEST_COLUMNS)
        .where(job_request.c.unique_key == new.unique_key, or_(unfinished(), recent))
        .order_by(job_request.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else to_request(row)


def _replaced(connection: Connection, job: JobRequest, new: NewJob) -> JobRequest | None:
    """Give a job that has not begun the payload and the due time of the new one, if the new one says so.

    Return None if the job has gone or has got a SpokeJob since it was read: read it again then.
    """
    if not may_be_replaced(job, new):
        return job
    fixed, seconds = start_deadline(new)
    changes = job_replaced(DATABASE_CLOCK, job, new, fixed or clock_after(seconds))
    if "options" in changes:
        changes["options"] = changes["options"].to_json()
    replaced = (
        update(job_request)
        .where(
            job_request.c.id == job.id,
            job_request.c.attempt <= 0,  # other code may have written less than 0
            job_request.c.run == job.run,
            job_request.c.state.in_((JobState.WAITING, JobState.BLOCKED)),
            job_request.c.runner != REFERENCE,  # other code may have assigned it since it was read
        )
        .values(changes)
        .returning(*REQUEST_COLUMNS)
    )
    if "run_after" in changes:
        replaced = replaced.where(job_request.c.submitted_at.is_(None))
    row = connection.execute(replaced).mappings().one_or_none()
    if row is not None:
        return to_request(row)
    found = read_job(connection, job.id)
    return None if found is None or may_be_replaced(found, new) else found
