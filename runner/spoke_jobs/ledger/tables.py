"""The ledger's tables. ``job_request`` keeps the reference's columns and meanings; the rest is ours."""

from __future__ import annotations

from typing import Any

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

_big = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER numbers itself on SQLite

job_request = Table(
    "job_request",
    metadata,
    # As in the reference:
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("campaign_id", Integer),
    Column("organization_id", Integer),
    Column("payload", Text, nullable=False),
    Column("queue_name", Text, nullable=False, index=True),
    Column("job_type", Text, nullable=False),
    Column("result_message", Text, nullable=False, server_default=""),
    Column("locks_queue", Boolean, nullable=False, server_default=text("false")),
    Column("assigned", Boolean, nullable=False, server_default=text("false")),
    Column("status", Integer, nullable=False, server_default=text("0")),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    # Ours:
    Column("uid", Uuid, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("runner", Text, nullable=False),
    Column("run", Integer, nullable=False, server_default=text("1")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("options", JSON, nullable=False),
    Column("rank", Integer, nullable=False, server_default=text("0")),  # the priority negated: an index has one order
    Column("unique_key", Text),
    Column("run_after", UTCDateTime),
    Column("start_by", UTCDateTime),
    Column("cancel_requested_at", UTCDateTime),
    Column("submitted_at", UTCDateTime),
    Column("started_at", UTCDateTime),
    Column("finished_at", UTCDateTime),
    Column("expires_at", UTCDateTime),
    Column("cause", Text, nullable=False, server_default=""),
    Column("result", JSON(none_as_null=True)),
    CheckConstraint("state IN ('waiting', 'running', 'succeeded', 'failed')", name="state"),
    sqlite_autoincrement=True,  # no id twice, as on PostgreSQL: a deleted row's attempts may still stand
)

job_attempt = Table(
    "job_attempt",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("job_id", _big, ForeignKey("job_request.id", ondelete="CASCADE"), nullable=False),
    Column("run", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("token", Uuid, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("claimed_at", UTCDateTime, nullable=False),
    Column("heartbeat_at", UTCDateTime, nullable=False),
    Column("lease_expires_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Column("cause", Text, nullable=False, server_default=""),
    Column("error_type", Text, nullable=False, server_default=""),
    Column("for_good", Boolean, nullable=False, server_default=text("false")),
    Column("output_tail", Text, nullable=False, server_default=""),
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

task_outbox = Table(  # tasks of a caller's transaction; one that has run is deleted
    "task_outbox",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("uid", Uuid, nullable=False),
    Column("runner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("losses", Integer, nullable=False, server_default=text("0")),  # claims whose lease lapsed
    Column("token", Uuid),  # of the claim that holds it
    Column("worker", Text, nullable=False, server_default=""),
    Column("created_at", UTCDateTime, nullable=False),
    Column("due_at", UTCDateTime, nullable=False),  # from when on it may be claimed: while it is, its lease's end
    Column("finished_at", UTCDateTime),
    Column("expires_at", UTCDateTime),
    Column("cause", Text, nullable=False, server_default=""),
    Column("error_type", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('pending', 'failed')", name="state"),
    sqlite_autoincrement=True,
)

# Each serves one query of a running system, and holds only the rows that the query may find.
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
# Of the unfinished jobs with one key there is one, however many dispatch it at once.
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
# A job has one live attempt: two claims that raced can't both be written.
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
    """Alembic's ``include_object`` hook for an application's own migrations: leaves the ledger's tables alone.

    ``context.configure(..., include_object=spoke_jobs.ledger.tables.include_object)``
    """
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return table not in metadata.tables and table != VERSION_TABLE
