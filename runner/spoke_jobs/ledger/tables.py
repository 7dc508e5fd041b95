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
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.ledger.columns.clock import UTCDateTime, beginning, clock_now
from spoke_jobs.ledger.columns.column_types import (
    Count,
    LargeNumber,
    Number,
    StorableText,
    StoredJson,
    Uid,
    no_options,
    random_uuid,
)
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.outbox_row import TaskRow
from spoke_jobs.model import USAGE_FIELDS, Attempt, AttemptState, JobRequest, JobState, Saved
from spoke_jobs.payloads import CHECKPOINT_LIMIT_BYTES, JOB_LIMIT_BYTES, SCHEDULE_LIMIT_BYTES, TASK_LIMIT_BYTES
from spoke_jobs.settings import schema_of_environment
from spoke_jobs.type_names import NAME_LIMIT

SCHEMA = schema_of_environment()
"""The schema of the tables; None for the connection's default. It is part of each statement, because statements are
compiled once, and also run on connections of the application."""
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    },
)
VERSION_TABLE = "spoke_jobs_version"
"""Alembic's version table of the ledger, apart from the application's own."""


def sql_name(table: str) -> str:
    """Return the name of one of the ledger's tables for SQL text."""
    return f'"{SCHEMA}".{table}' if SCHEMA else table


_TAIL_LIMIT_BYTES = 32_000
"""Of the last lines of an attempt: 8,000 characters."""
_NOTICE_LIMIT_BYTES = 1_000_000
"""Of a notice: 20 groups with the longest names, texts and links, in which a character takes up to twelve bytes."""
_OUTPUTS_LIMIT_BYTES = 500_000
"""Of the last lines of ten containers: 4,000 characters each, escaped."""
_big = BigInteger().with_variant(Integer, "sqlite")  # on SQLite only INTEGER is numbered automatically

_TYPES: dict[Any, Any] = {
    int: Number,
    str: StorableText,
    bool: Boolean,
    datetime: UTCDateTime,
    UUID: Uuid,
    JobState: StorableText,
    AttemptState: StorableText,
}


def _for_others(name: str, kind: Any, default: Any, **more: Any) -> Column[Any]:
    """A column that every dispatch of this library sets, and that has a default for rows that other code inserts.

    On SQLite the default also replaces an explicit NULL, as a trigger does on PostgreSQL.
    """
    return Column(name, kind, nullable=False, server_default=default, sqlite_on_conflict_not_null="REPLACE", **more)


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
            of_column = Count if kind is int and not nullable else _TYPES[kind]
            column = Column(field.name, of_column, nullable=nullable, server_default=_server_default(field.default))
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
        queue_name=Column("queue_name", StorableText, nullable=False, index=True),
        uid=_for_others("uid", Uid(), random_uuid(), unique=True),
        state=_for_others("state", StorableText, JobState.WAITING.value),
        runner=_for_others("runner", StorableText, "legacy"),
        payload=Column("payload", StorableText(JOB_LIMIT_BYTES, whole=True), nullable=False),
        options=_for_others("options", StoredJson, no_options()),
        created_at=_for_others("created_at", UTCDateTime, clock_now()),
        updated_at=_for_others("updated_at", UTCDateTime, clock_now()),
        result_message=_for_others("result_message", StorableText, ""),
        locks_queue=_for_others("locks_queue", Boolean, text("false")),
        assigned=_for_others("assigned", Boolean, text("false")),
        status=_for_others("status", Count, text("0")),
        # The priority, negated: all columns of an index are then in ascending order.
        priority=Column("rank", Count, nullable=False, server_default=text("0")),
        result=Column("result", StoredJson(none_as_null=True)),
        batch_id=Column("batch_id", _big),
    ),
    CheckConstraint("state IN ('blocked', 'waiting', 'running', 'succeeded', 'failed')", name="state"),
    sqlite_autoincrement=True,  # ids are never reused, as on PostgreSQL: a deleted row's attempts may still exist
)

job_attempt = Table(
    "job_attempt",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    *_columns_of(
        Attempt,
        job_id=Column("job_id", _big, ForeignKey(job_request.c.id, ondelete="CASCADE"), nullable=False),
        output_tail=Column("output_tail", StorableText(_TAIL_LIMIT_BYTES), nullable=False, server_default=""),
        **{name: Column(name, LargeNumber) for name in USAGE_FIELDS},
    ),
    Column("token", Uid(), nullable=False, unique=True),
    Column("for_good", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("job_id", "run", "number"),
    CheckConstraint("state IN ('running', 'succeeded', 'failed')", name="state"),
    sqlite_autoincrement=True,
)

attempt_report = Table(  # what the cluster said about a failed attempt; written by sync
    "attempt_report",
    metadata,
    Column("job_id", _big, ForeignKey(job_request.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("run", Count, primary_key=True, autoincrement=False),
    Column("number", Count, primary_key=True, autoincrement=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("cause", StorableText, nullable=False),
    Column("message", StorableText, nullable=False, server_default=""),
    Column("pod", StorableText, nullable=False, server_default=""),
    Column("outputs", StoredJson(_OUTPUTS_LIMIT_BYTES), nullable=False),
)

job_checkpoint = Table(  # what running attempts saved for later ones
    "job_checkpoint",
    metadata,
    Column("job_id", _big, ForeignKey(job_request.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    *_columns_of(
        Saved,
        name=Column("name", StorableText, primary_key=True),
        value=Column("value", StorableText(CHECKPOINT_LIMIT_BYTES, whole=True), nullable=False),
    ),
)

job_batch = Table(
    "job_batch",
    metadata,
    *_columns_of(
        Batch,
        id=Column("id", _big, primary_key=True, autoincrement=True),
        then_id=Column("then_id", _big, index=True),
    ),
    sqlite_autoincrement=True,
)

job_dependency = Table(  # which job runs after which; the ids of a job's dependencies are lower than its own
    "job_dependency",
    metadata,
    Column("job_id", _big, ForeignKey(job_request.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # Without ON DELETE: the job that is depended on stays as long as this row does. Pruning deletes both.
    Column("needs_id", _big, ForeignKey(job_request.c.id), primary_key=True, autoincrement=False, index=True),
    Column("open", Boolean, nullable=False),  # whether `open_dependencies` counts it
    Column("runs_after_failure", Boolean, nullable=False),
)

queue_lock = Table(
    "queue_lock",
    metadata,
    Column("queue_name", StorableText, primary_key=True),
    Column("job_id", _big, ForeignKey(job_request.c.id, ondelete="CASCADE"), nullable=False),
    Column("token", Uuid, nullable=False, unique=True),
    Column("acquired_at", UTCDateTime, nullable=False),
)

task_outbox = Table(  # tasks written in a caller's transaction; deleted once they have run
    "task_outbox",
    metadata,
    *_columns_of(
        TaskRow,
        id=Column("id", _big, primary_key=True, autoincrement=True),
        uid=Column("uid", Uid(), nullable=False),
        payload=Column("payload", StorableText(TASK_LIMIT_BYTES, whole=True), nullable=False),
        state=Column("state", StorableText, nullable=False, server_default="pending"),
    ),
    Column("token", Uid()),  # of the current claim
    CheckConstraint("state IN ('pending', 'failed')", name="state"),
    sqlite_autoincrement=True,
)

task_replica = Table(  # replica of the task deployment: its last sign, and its slots; for people only
    "task_replica",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("started_at", UTCDateTime, nullable=False),
    Column("seen_at", UTCDateTime, nullable=False),
    Column("slots", Count, nullable=False),
    Column("used", Count, nullable=False),  # by `def` tasks
    Column("used_async", Count, nullable=False),
)

job_event = Table(  # who changed what, and when; rows outlive those of their jobs
    "job_event",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("at", UTCDateTime, nullable=False, index=True),
    Column("actor", StorableText, nullable=False, server_default=""),
    Column("action", StorableText, nullable=False),
    Column("job_id", _big, index=True),
    Column("job_type", StorableText, nullable=False, server_default=""),
    Column("detail", StorableText, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

job_limit = Table(  # limits, rates and pauses; claims lock the rows whose bounds apply to their jobs
    "job_limit",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("scope", StorableText, nullable=False, unique=True),
    Column("max_running", Integer),
    Column("rate_count", Integer),
    Column("rate_seconds", Integer),
    Column("burst", Integer, nullable=False, server_default=text("1")),
    Column("full_at", UTCDateTime),  # when the rate's bucket is full if no attempt starts; of several, the last one
    Column("paused_at", UTCDateTime),
    Column("paused_until", UTCDateTime),
    Column("paused_by", StorableText, nullable=False, server_default=""),
    Column("paused_reason", StorableText, nullable=False, server_default=""),
    Column("source", StorableText, nullable=False, server_default="runtime"),
    Column("declared", StoredJson(none_as_null=True)),  # the bounds in the application's code
    Column("declared_by", StorableText, nullable=False, server_default=""),
    Column("updated_at", UTCDateTime, nullable=False),
    CheckConstraint("source IN ('default', 'runtime')", name="source"),
    sqlite_autoincrement=True,
)

job_limit_bucket = Table(  # of the rate of each queue, type or organization, those that are not full
    "job_limit_bucket",
    metadata,
    Column("limit_id", _big, ForeignKey(job_limit.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("name", StorableText, primary_key=True),  # empty: it holds for all names
    Column("full_at", UTCDateTime, nullable=False),
)
Index("ix_job_limit_bucket_limit_id", job_limit_bucket.c.limit_id, job_limit_bucket.c.full_at)

job_schedule = Table(
    "job_schedule",
    metadata,
    Column("name", StorableText, primary_key=True),
    Column("runner", StorableText, nullable=False),
    Column("origin", StorableText, nullable=False),
    Column("job_type", StorableText, nullable=False),
    Column("definition", StoredJson(SCHEDULE_LIMIT_BYTES), nullable=False),
    Column("digest", StorableText, nullable=False),
    # The next due time that is not decided yet; NULL if the schedule is never due again.
    Column("next_due_at", UTCDateTime),
    # When a process that can dispatch the schedule's jobs was last seen.
    Column("served_at", UTCDateTime),
    Column("paused_at", UTCDateTime),
    Column("paused_by", StorableText, nullable=False, server_default=""),
    Column("last_due_at", UTCDateTime),  # of the newest job
    Column("last_job_id", _big),
    Column("last_skip", StoredJson(none_as_null=True)),
    Column("error", StorableText, nullable=False, server_default=""),  # of the newest occurrence
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    CheckConstraint("origin IN ('code', 'dynamic')", name="origin"),
)

notice_channel = (
    Table(  # how far `spoke-jobs notify` has come for one receiver; the holder of the lease reads and sends
        "notice_channel",
        metadata,
        Column("name", StorableText, primary_key=True),
        Column("started_at", UTCDateTime, nullable=False),
        Column("looked_at", UTCDateTime, nullable=False),
        Column("digest_at", UTCDateTime),  # of the last digest
        Column("holder", StorableText, nullable=False, server_default=""),
        Column("token", Uid()),
        Column("lease_until", UTCDateTime),
    )
)

notice_seen = Table(  # failures that are counted; deleted when no look reaches back to them any more
    "notice_seen",
    metadata,
    Column("channel", StorableText, primary_key=True),
    Column("job_id", _big, primary_key=True, autoincrement=False),
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("finished_at", UTCDateTime, nullable=False),
)

notice_group = Table(  # a type, a cause and a fingerprint with recent failures
    "notice_group",
    metadata,
    Column("channel", StorableText, primary_key=True),
    Column("group_key", StorableText, primary_key=True),
    Column("job_type", StorableText, nullable=False),
    Column("cause", StorableText, nullable=False),
    Column("fingerprint", StorableText, nullable=False),
    Column("known_since", UTCDateTime, nullable=False),
    Column("newest_at", UTCDateTime, nullable=False),
    Column("oldest_at", UTCDateTime),  # of the failures that no notice has reported; NULL if there are none
    Column("unreported", Count, nullable=False, server_default=text("0")),  # how many of these
    Column("job_id", _big, nullable=False),
    Column("reported_at", UTCDateTime),  # when the last notice about it was made
)

notice_outbox = Table(  # notices that their receiver has not confirmed
    "notice_outbox",
    metadata,
    Column("id", Uid(), primary_key=True),
    Column("channel", StorableText, nullable=False),
    Column("document", StoredJson(_NOTICE_LIMIT_BYTES), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("tries", Count, nullable=False, server_default=text("0")),
    Column("next_try_at", UTCDateTime, nullable=False),
)

notice_mute = Table(  # failures about which no notices are wanted
    "notice_mute",
    metadata,
    Column("id", _big, primary_key=True, autoincrement=True),
    Column("job_type", StorableText),  # a name or a pattern; NULL: any, as the next two
    Column("cause", StorableText),
    Column("fingerprint", StorableText),
    Column("until", UTCDateTime, nullable=False),
    Column("reason", StorableText, nullable=False),
    Column("muted_by", StorableText, nullable=False, server_default=""),
    Column("muted_at", UTCDateTime, nullable=False),
    sqlite_autoincrement=True,
)


def _partial(name: str, where: str, *columns: ColumnElement[Any], unique: bool = False) -> Index:
    """Add an index of the rows that fulfill the condition."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


# Each index serves one frequent query, and contains only the rows that the query can return.
DUE_FROM: ColumnElement[datetime] = func.coalesce(job_request.c.run_after, beginning())
"""The time from which a job is due."""
# The order in which jobs are claimed: by priority, then by age. On PostgreSQL, a search passes over the jobs that are
# not due yet in the index, without a look at their rows: hundreds of thousands may come before the first that is due.
_ORDER = (job_request.c.runner, job_request.c.rank, job_request.c.id)
_partial("ix_job_request_due", "state = 'waiting'", *_ORDER, DUE_FROM).ddl_if(dialect="postgresql")
_partial("ix_job_request_waiting", "state = 'waiting'", *_ORDER).ddl_if(dialect="sqlite")
# The same order within each organization, for turns among organizations (`turn_search`).
_partial(
    "ix_job_request_turns",
    "state = 'waiting' AND organization_id IS NOT NULL",
    job_request.c.runner,
    job_request.c.organization_id,
    job_request.c.rank,
    job_request.c.id,
)
_partial("ix_job_request_start_by", "state = 'waiting' AND start_by IS NOT NULL", job_request.c.start_by)
_partial("ix_job_request_expires_at", "expires_at IS NOT NULL", job_request.c.expires_at)
# One unfinished job for each key, also under concurrent dispatches.
_partial(
    "uq_job_request_unique_key",
    "unique_key IS NOT NULL AND state IN ('waiting', 'running', 'blocked')",
    job_request.c.unique_key,
    unique=True,
)
# Recent jobs with a key, for `unique_for`.
_partial("ix_job_request_unique_key", "unique_key IS NOT NULL", job_request.c.unique_key, job_request.c.created_at)
_partial("ix_job_request_batch_id", "batch_id IS NOT NULL", job_request.c.batch_id)
# Ended jobs whose dependents are still to be unblocked or failed.
_partial("ix_job_request_unsettled", "awaited AND state IN ('succeeded', 'failed')", job_request.c.id)
# The blocked jobs, for `why`.
_partial("ix_job_request_blocked", "state = 'blocked'", job_request.c.id)
# The jobs that have failed recently, for `why`.
_partial("ix_job_request_failed", "state = 'failed'", job_request.c.finished_at)
# The failed jobs by id, for lists of them. Few jobs fail, so that few writes have to do with it.
_partial("ix_job_request_failed_by_id", "state = 'failed'", job_request.c.id)
# The ended jobs of each organization, for lists and counts of those who may see no others.
_partial(
    "ix_job_request_ended",
    "organization_id IS NOT NULL AND state IN ('succeeded', 'failed')",
    job_request.c.organization_id,
    job_request.c.state,
    job_request.c.id,
)
# The successes of each type, for `sizes` and for lists. A type that other code has made too long for an index is left
# out.
_partial(
    "ix_job_request_succeeded",
    f"state = 'succeeded' AND length(job_type) <= {NAME_LIMIT}",
    job_request.c.job_type,
    job_request.c.id,
)
_UNLAUNCHED = f"state = 'waiting' AND runner = '{CLUSTER_RUNNER}' AND submitted_at IS NULL"
_partial("ix_job_request_unlaunched", _UNLAUNCHED, job_request.c.id)
# Those among them that lock their queue: each waits for the older ones of its queue.
_partial(
    "ix_job_request_unlaunched_queue",
    f"{_UNLAUNCHED} AND locks_queue",
    job_request.c.queue_name,
    job_request.c.id,
)
# One job for each due time of a schedule, whichever process dispatches it.
_partial(
    "uq_job_request_schedule", "schedule IS NOT NULL", job_request.c.schedule, job_request.c.scheduled_for, unique=True
)
# The unfinished jobs of a schedule that does not allow overlaps.
_partial(
    "ix_job_request_schedule_unfinished",
    "schedule IS NOT NULL AND state IN ('waiting', 'running', 'blocked')",
    job_request.c.schedule,
)
Index(
    "ix_job_schedule_due",
    job_schedule.c.runner,
    job_schedule.c.next_due_at,
    postgresql_where=text("paused_at IS NULL AND next_due_at IS NOT NULL"),
    sqlite_where=text("paused_at IS NULL AND next_due_at IS NOT NULL"),
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
    table = item if kind == "table" else getattr(item, "table", None)
    if table is None or table.schema != SCHEMA:
        return True
    return table.name != VERSION_TABLE and table.name not in {own.name for own in metadata.tables.values()}
