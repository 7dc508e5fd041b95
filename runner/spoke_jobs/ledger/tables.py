"""The ledger's tables. ``job_request`` has the columns of the reference, with their meanings, and further ones.

The columns of ``job_request`` and ``job_attempt`` follow from the fields of :class:`~spoke_jobs.model.JobRequest` and
:class:`~spoke_jobs.model.Attempt`. A new column is a field there and a migration.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import datetime
from types import NoneType
from typing import Any, get_args, get_type_hints
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from spoke_jobs.ledger.clock import UTCDateTime
from spoke_jobs.model import Attempt, AttemptState, JobRequest, JobState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
VERSION_TABLE = "spoke_jobs_version"
"""Alembic's version table of the ledger, apart from the application's own."""

_big = BigInteger().with_variant(Integer, "sqlite")  # on SQLite only INTEGER is numbered automatically

_TYPES: dict[Any, Any] = {
    int: Integer,
    str: Text,
    bool: Boolean,
    datetime: UTCDateTime,
    UUID: Uuid,
    JobState: Text,
    AttemptState: Text,
}


def _columns_of(row: type, **given: Column[Any]) -> list[Column[Any]]:
    """Derive a table's columns from a dataclass: type and nullability from the annotation, server default from the
    default.

    :param given: columns by field name, for columns that cannot be derived from the field alone.
    """
    columns = []
    hints = get_type_hints(row)
    for field in fields(row):
        column = given.get(field.name)
        if column is None:
            kinds = set(get_args(hints[field.name])) or {hints[field.name]}
            nullable = NoneType in kinds
            (kind,) = kinds - {NoneType}
            column = Column(field.name, _TYPES[kind], nullable=nullable, server_default=_server_default(field.default))
        columns.append(column)
    return columns


def _server_default(default: Any) -> Any:
    if default is MISSING or default is None:
        return None
    return default if isinstance(default, str) else text(str(default).lower())


job_request = Table(
    "job_request",
    metadata,
    *_columns_of(
        JobRequest,
        id=Column("id", _big, primary_key=True, autoincrement=True),
        queue_name=Column("queue_name", Text, nullable=False, index=True),
        uid=Column("uid", Uuid, nullable=False, unique=True),
        options=Column("options", JSON, nullable=False),
        # The priority, negated: all columns of an index are then in ascending order.
        priority=Column("rank", Integer, nullable=False, server_default=text("0")),
        result=Column("result", JSON(none_as_null=True)),
    ),
    CheckConstraint("state IN ('waiting', 'running', 'succeeded', 'failed')", name="state"),
    sqlite_autoincrement=True,  # ids are never reused, as on PostgreSQL: a deleted row's attempts may still exist
)

job_attempt = Table(
    "job_attempt",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    *_columns_of(
        Attempt, job_id=Column("job_id", _big, ForeignKey("job_request.id", ondelete="CASCADE"), nullable=False)
    ),
    Column("token", Uuid, nullable=False, unique=True),
    Column("for_good", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("job_id", "run", "number"),
    CheckConstraint("state IN ('running', 'succeeded', 'failed')", name="state"),
    sqlite_autoincrement=True,
)

queue_lock = Table(
    "queue_lock",
    metadata,
    Column("queue_name", Text, primary_key=True),
    Column("job_id", _big, ForeignKey("job_request.id", ondelete="CASCADE"), nullable=False),
    Column("token", Uuid, nullable=False, unique=True),
    Column("acquired_at", UTCDateTime, nullable=False),
)

task_outbox = Table(  # tasks written in a caller's transaction; deleted once they have run
    "task_outbox",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("uid", Uuid, nullable=False),
    Column("runner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("losses", Integer, nullable=False, server_default=text("0")),  # claims whose lease has lapsed
    Column("token", Uuid),  # of the current claim
    Column("worker", Text, nullable=False, server_default=""),
    Column("created_at", UTCDateTime, nullable=False),
    # When the task may be claimed; for a claimed task, the end of its lease.
    Column("due_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Column("expires_at", UTCDateTime),
    Column("cause", Text, nullable=False, server_default=""),
    Column("error_type", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('pending', 'failed')", name="state"),
    sqlite_autoincrement=True,
)

# Each index serves one frequent query, and contains only the rows that the query can return.
Index(  # the order in which jobs are claimed: by priority, then by age
    "ix_job_request_waiting",
    job_request.c.runner,
    job_request.c.rank,
    job_request.c.id,
    postgresql_where=text("state = 'waiting'"),
    sqlite_where=text("state = 'waiting'"),
)
Index(
    "ix_job_request_start_by",
    job_request.c.start_by,
    postgresql_where=text("state = 'waiting' AND start_by IS NOT NULL"),
    sqlite_where=text("state = 'waiting' AND start_by IS NOT NULL"),
)
Index(
    "ix_job_request_expires_at",
    job_request.c.expires_at,
    postgresql_where=text("expires_at IS NOT NULL"),
    sqlite_where=text("expires_at IS NOT NULL"),
)
# One unfinished job for each key, also under concurrent dispatches.
Index(
    "uq_job_request_unique_key",
    job_request.c.unique_key,
    unique=True,
    postgresql_where=text("unique_key IS NOT NULL AND state IN ('waiting', 'running')"),
    sqlite_where=text("unique_key IS NOT NULL AND state IN ('waiting', 'running')"),
)
Index(
    "ix_job_request_unlaunched",
    job_request.c.id,
    postgresql_where=text("state = 'waiting' AND runner = 'kubernetes' AND submitted_at IS NULL"),
    sqlite_where=text("state = 'waiting' AND runner = 'kubernetes' AND submitted_at IS NULL"),
)
Index(
    "ix_job_attempt_running",
    job_attempt.c.lease_expires_at,
    postgresql_where=text("state = 'running'"),
    sqlite_where=text("state = 'running'"),
)
# One running attempt for each job: of two concurrent claims, one fails.
Index(
    "uq_job_attempt_live",
    job_attempt.c.job_id,
    unique=True,
    postgresql_where=text("state = 'running'"),
    sqlite_where=text("state = 'running'"),
)
Index(
    "ix_task_outbox_due",
    task_outbox.c.runner,
    task_outbox.c.due_at,
    task_outbox.c.id,
    postgresql_where=text("state = 'pending'"),
    sqlite_where=text("state = 'pending'"),
)
Index(
    "ix_task_outbox_expires_at",
    task_outbox.c.expires_at,
    postgresql_where=text("expires_at IS NOT NULL"),
    sqlite_where=text("expires_at IS NOT NULL"),
)


def include_object(item: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    """Exclude the ledger's tables from an application's own migrations. This is a hook for Alembic.

    ``context.configure(..., include_object=spoke_jobs.ledger.tables.include_object)``
    """
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return table not in metadata.tables and table != VERSION_TABLE
