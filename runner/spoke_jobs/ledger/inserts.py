"""The INSERT of a job, which every dispatch uses.

It writes the columns that a dispatch sets (:class:`~spoke_jobs.model.DispatchedJob`) and those of ``_GENERATED``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Float, and_, bindparam, func, insert, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.clock import UTCDateTime, clock_after, clock_now, in_utc
from spoke_jobs.ledger.expressions import unfinished, unfinished_with
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request, to_row
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.ledger.transitions import dispatched, new_request, start_deadline
from spoke_jobs.model import JobOptions, JobRequest, JobState, NewJob

_TRIES = 5
_SERIALIZATION_STATES = {"40P01", "40001"}
"""PostgreSQL's deadlock_detected and serialization_failure."""
_GENERATED = {
    "state": literal_column(f"'{JobState.WAITING}'"),
    "start_by": func.coalesce(
        bindparam("start_at", type_=UTCDateTime), clock_after(bindparam("start_timeout", type_=Float))
    ),
    "created_at": clock_now(),
    "updated_at": clock_now(),
}
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


def insert_job(connection: Connection, new: NewJob) -> JobRequest:
    """Write a waiting job. If an unfinished job has its unique key, return that one instead.

    :raises UniquenessConflict: if another transaction takes the same keys in another order.
    """
    if new.unique_key is not None:
        return _insert_unique(connection, new)
    return insert_jobs(connection, [new])[0]


def insert_jobs(connection: Connection, new: Sequence[NewJob]) -> list[JobRequest]:
    """Write many waiting jobs. Unique keys are taken in sorted order, so that two batches cannot deadlock.

    :returns: the rows in the order given.
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
    for values in parameters:
        del values["unique_key"]  # NULL
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
        "uid": uuid.uuid4(),
        "start_at": fixed,
        "start_timeout": seconds,
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
    holder = unfinished_with(new.unique_key, *REQUEST_COLUMNS)
    try:
        for _ in range(_TRIES):
            row = connection.execute(statement, parameters).mappings().one_or_none()
            row = row or connection.execute(holder).mappings().one_or_none()
            if row is not None:
                return to_request(row)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") in _SERIALIZATION_STATES:
            raise UniquenessConflict(
                f"another transaction takes the unique_key {new.unique_key!r} as well, and this one can't go on: "
                "they take several keys in opposite orders, or this one reads an older snapshot of the database. Roll "
                "back and dispatch again. A single dispatch_jobs() call takes all its keys in one order"
            ) from error
        raise
    # In each try, the job that had the key ended between the two statements.
    raise UniquenessConflict(f"the unique_key {new.unique_key!r} changes hands too quickly: dispatch again")
