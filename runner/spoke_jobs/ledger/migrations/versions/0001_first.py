"""The ledger's tables. An existing `job_request` of the reference is converted, and keeps its rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector as inspect_database
from spoke_jobs.ledger.migrations.connection import reading, runs_on_sqlite

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)
_false = sa.text("false")


_REFERENCE: dict[str, Any] = {
    "id": _big,
    "campaign_id": sa.Integer(),
    "organization_id": sa.Integer(),
    "payload": sa.Text(),
    "queue_name": sa.Text(),
    "job_type": sa.Text(),
    "result_message": sa.Text(),
    "locks_queue": sa.Boolean(),
    "assigned": sa.Boolean(),
    "status": sa.Integer(),
    "updated_at": _time,
    "created_at": _time,
}
"""The reference's columns, with the types that the ledger gives them."""
_DEFAULTS: dict[str, Any] = {"result_message": "", "locks_queue": _false, "assigned": _false, "status": sa.text("0")}


def upgrade() -> None:
    """Create the tables and their indexes."""
    inspector = inspect_database()
    for name in ("job_attempt", "queue_lock"):
        if inspector.has_table(name):
            raise _refusal(name, "which is one of the ledger's names")
    if inspector.has_table("job_request"):
        _adopt(inspector)
    else:
        _create_job_request()
    op.create_index("ix_job_request_queue_name", "job_request", ["queue_name"])
    _partial("ix_job_request_waiting", "job_request", ["runner", "id"], "state = 'waiting'")
    _partial(
        "ix_job_request_unlaunched",
        "job_request",
        ["id"],
        "state = 'waiting' AND runner = 'kubernetes' AND submitted_at IS NULL",
    )
    _create_others()


def downgrade() -> None:
    """Give `job_request` the reference's form again. Nothing may run."""
    op.drop_table("queue_lock")
    op.drop_table("job_attempt")
    # The reference deletes a job that has succeeded, and counts all other rows as pending.
    op.execute("DELETE FROM job_request WHERE state = 'succeeded'")
    for name in ("ix_job_request_waiting", "ix_job_request_unlaunched", "ix_job_request_queue_name"):
        op.drop_index(name, "job_request")
    sqlite = runs_on_sqlite()
    now = sa.text("CURRENT_TIMESTAMP")
    given = [sa.Column(name, _REFERENCE[name], server_default=default) for name, default in _DEFAULTS.items()]
    given += [sa.Column(name, _time, nullable=False, server_default=now) for name in ("created_at", "updated_at")]
    with op.batch_alter_table(
        "job_request",
        recreate="always" if sqlite else "never",
        reflect_args=tuple(given),
        table_kwargs={"sqlite_autoincrement": True},
        naming_convention={"pk": "pk_%(table_name)s"},
    ) as table:
        table.drop_constraint("uq_job_request_uid", type_="unique")
        table.drop_constraint(op.f("ck_job_request_state"), type_="check")
        for column in _our_columns():
            table.drop_column(column.name)
        if not sqlite:
            for name in _DEFAULTS:
                table.alter_column(name, nullable=True)
            for name in ("created_at", "updated_at"):
                table.alter_column(name, server_default=now)
    if not sqlite:
        _restore_id()
    op.create_index("job_request_queue_name_index", "job_request", ["queue_name"])


def _restore_id() -> None:
    """Make the id an integer again, while the ids still fit."""
    if (reading().scalar(sa.text("SELECT max(id) FROM job_request")) or 0) >= 2**31:
        return
    op.alter_column("job_request", "id", existing_type=sa.BigInteger(), type_=sa.Integer(), existing_nullable=False)
    if sequence := reading().scalar(sa.text("SELECT pg_get_serial_sequence('job_request', 'id')")):
        op.execute(sa.text(f"ALTER SEQUENCE {sequence} AS integer"))


def _refusal(table: str, what: str) -> MigrationRefused:
    return MigrationRefused(
        f"there is a table {table} {what}: it is not a job runner's; "
        "rename it, or give the ledger a database or schema of its own"
    )


def _adopt(inspector: Any) -> None:
    """Convert the reference's table in place. Its columns keep their meanings.

    Waiting jobs stay waiting. A job that was assigned to a process fails as interrupted: it may have run in part,
    and may not be safe to repeat. Ids stay the same, so that references to them remain valid. The application's foreign
    keys and indexes of other columns stay as well.
    """
    found = {column["name"]: column["type"] for column in inspector.get_columns("job_request")}
    _check_that_it_is_the_references(inspector, found)
    sqlite = runs_on_sqlite()
    # The ledger's own index replaces any index on the queue's name.
    for index in inspector.get_indexes("job_request"):
        partial = index.get("dialect_options", {}).get("sqlite_where" if sqlite else "postgresql_where")
        if index["column_names"] == ["queue_name"] and not index["unique"] and partial is None:
            op.drop_index(index["name"], "job_request")
    with op.batch_alter_table("job_request") as table:
        for column in _our_columns():
            table.add_column(column)
    if not sqlite:  # on SQLite the table is copied below, which also converts the types
        _convert_types(found)
    op.execute(sa.text(_FILL_SQLITE if sqlite else _FILL_POSTGRESQL))
    with op.batch_alter_table(
        "job_request",
        table_kwargs={"sqlite_autoincrement": True},
        naming_convention={"pk": "pk_%(table_name)s"},
    ) as table:
        for name, kind in _REFERENCE.items():
            converted: dict[str, Any] = {"type_": kind, "existing_type": found[name]} if sqlite else {}
            if name in _DEFAULTS:
                table.alter_column(name, nullable=False, server_default=_DEFAULTS[name], **converted)
            elif name in ("created_at", "updated_at"):
                table.alter_column(name, nullable=False, server_default=None, **converted)
            elif name == "id":
                if sqlite:
                    table.alter_column(name, existing_nullable=False, autoincrement=True, **converted)
            elif name in ("payload", "queue_name", "job_type"):
                table.alter_column(name, nullable=False, server_default=None, **converted)
            elif converted:
                table.alter_column(name, **converted)
        table.alter_column("runner", server_default=None)
        table.alter_column("options", server_default=None)
        table.alter_column("uid", nullable=False)
        table.alter_column("state", nullable=False)
        table.create_unique_constraint("uq_job_request_uid", ["uid"])
        table.create_check_constraint(
            op.f("ck_job_request_state"), "state IN ('waiting', 'running', 'succeeded', 'failed')"
        )


def _our_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("uid", sa.Uuid()),
        sa.Column("state", sa.Text()),
        sa.Column("runner", sa.Text(), nullable=False, server_default="legacy"),
        sa.Column("run", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("options", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("run_after", _time),
        sa.Column("submitted_at", _time),
        sa.Column("started_at", _time),
        sa.Column("finished_at", _time),
        sa.Column("cause", sa.Text(), nullable=False, server_default=""),
        sa.Column("result", sa.JSON(none_as_null=True)),
    ]


def _check_that_it_is_the_references(inspector: Any, found: dict[str, Any]) -> None:
    if "job_request" not in inspector.get_table_names():
        raise _refusal("job_request", "that is a view")
    lacking = sorted(set(_REFERENCE) - set(found))
    if lacking and {"payload", "job_type", "queue_name", "assigned"} <= set(found):
        raise MigrationRefused(
            f"job_request lacks the columns {', '.join(lacking)}, as before the reference's own migrations: "
            "run those first (knex migrate:latest), then `spoke-jobs migrate` again"
        )
    if lacking:
        raise _refusal("job_request", f"without the columns {', '.join(lacking)}")
    if taken := sorted({column.name for column in _our_columns()} & set(found)):
        raise _refusal("job_request", f"that has columns of its own named {', '.join(taken)}")
    if not isinstance(found["id"], sa.Integer):
        raise _refusal("job_request", f"whose id is no integer but {found['id']}")


def _convert_types(found: dict[str, Any]) -> None:
    """Convert the columns' types on PostgreSQL."""
    op.alter_column("job_request", "id", existing_type=found["id"], type_=sa.BigInteger(), existing_nullable=False)
    if sequence := reading().scalar(sa.text("SELECT pg_get_serial_sequence('job_request', 'id')")):
        op.execute(sa.text(f"ALTER SEQUENCE {sequence} AS bigint"))
    for name in ("payload", "queue_name", "job_type", "result_message"):
        if not isinstance(found[name], sa.Text):
            op.alter_column("job_request", name, existing_type=found[name], type_=sa.Text())
    for name in ("created_at", "updated_at"):
        if not getattr(found[name], "timezone", False):
            op.alter_column("job_request", name, server_default=None)
            op.alter_column("job_request", name, type_=_time, postgresql_using=f"{name} AT TIME ZONE 'UTC'")


_FILL = """
UPDATE job_request SET
    uid = {uid},
    state = CASE WHEN coalesce(status, 0) < 0 OR coalesce(assigned, false) THEN 'failed' ELSE 'waiting' END,
    cause = CASE WHEN coalesce(status, 0) < 0 THEN 'JobError'
                 WHEN coalesce(assigned, false) THEN 'interrupted_by_migration' ELSE '' END,
    finished_at = CASE WHEN coalesce(status, 0) < 0 THEN {updated} WHEN coalesce(assigned, false) THEN {now} END,
    status = CASE WHEN status < 0 OR assigned THEN -1 ELSE coalesce(status, 0) END,
    assigned = coalesce(assigned, false),
    updated_at = {updated},
    created_at = {created},
    payload = coalesce(payload, '{{}}'),
    queue_name = coalesce(queue_name, ''),
    job_type = coalesce(job_type, ''),
    locks_queue = coalesce(locks_queue, false) AND coalesce(queue_name, '') <> '',
    result_message = coalesce(result_message, '')
"""
_FILL_POSTGRESQL = _FILL.format(
    uid="gen_random_uuid()",
    now="now()",
    updated="coalesce(updated_at, created_at, now())",
    created="coalesce(created_at, updated_at, now())",
)


def _sqlite_time(column: str) -> str:
    # On SQLite, the reference's own driver stores milliseconds. Other drivers store seconds or text.
    number = f"CASE WHEN {column} > 100000000000 THEN {column} / 1000.0 ELSE {column} END"
    return (
        f"CASE WHEN typeof({column}) IN ('integer', 'real') "
        f"THEN strftime('{_SQLITE_FORMAT}', {number}, 'unixepoch') ELSE strftime('{_SQLITE_FORMAT}', {column}) END"
    )


_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"
_SQLITE_NOW = f"strftime('{_SQLITE_FORMAT}', 'now')"
_FILL_SQLITE = _FILL.format(
    uid="lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || '8' || substr(hex(randomblob(8)), 2))",
    now=_SQLITE_NOW,
    updated=f"coalesce({_sqlite_time('updated_at')}, {_sqlite_time('created_at')}, {_SQLITE_NOW})",
    created=f"coalesce({_sqlite_time('created_at')}, {_sqlite_time('updated_at')}, {_SQLITE_NOW})",
).replace(":", "\\:")


def _create_job_request() -> None:
    op.create_table(
        "job_request",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("campaign_id", sa.Integer()),
        sa.Column("organization_id", sa.Integer()),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("queue_name", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("result_message", sa.Text(), nullable=False, server_default=""),
        sa.Column("locks_queue", sa.Boolean(), nullable=False, server_default=_false),
        sa.Column("assigned", sa.Boolean(), nullable=False, server_default=_false),
        sa.Column("status", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("updated_at", _time, nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("uid", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("runner", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("run_after", _time),
        sa.Column("submitted_at", _time),
        sa.Column("started_at", _time),
        sa.Column("finished_at", _time),
        sa.Column("cause", sa.Text(), nullable=False, server_default=""),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("id", name="pk_job_request"),
        sa.UniqueConstraint("uid", name="uq_job_request_uid"),
        sa.CheckConstraint("state IN ('waiting', 'running', 'succeeded', 'failed')", name=op.f("ck_job_request_state")),
        sqlite_autoincrement=True,
    )


def _create_others() -> None:
    op.create_table(
        "job_attempt",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("job_id", _big, nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("claimed_at", _time, nullable=False),
        sa.Column("heartbeat_at", _time, nullable=False),
        sa.Column("lease_expires_at", _time, nullable=False),
        sa.Column("finished_at", _time),
        sa.Column("cause", sa.Text(), nullable=False, server_default=""),
        sa.Column("error_type", sa.Text(), nullable=False, server_default=""),
        sa.Column("for_good", sa.Boolean(), nullable=False, server_default=_false),
        sa.Column("output_tail", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_job_attempt"),
        sa.UniqueConstraint("token", name="uq_job_attempt_token"),
        sa.UniqueConstraint("job_id", "run", "number", name="uq_job_attempt_job_id"),
        sa.ForeignKeyConstraint(["job_id"], ["job_request.id"], name="fk_job_attempt_job_id", ondelete="CASCADE"),
        sa.CheckConstraint("state IN ('running', 'succeeded', 'failed')", name=op.f("ck_job_attempt_state")),
        sqlite_autoincrement=True,
    )
    _partial("ix_job_attempt_running", "job_attempt", ["lease_expires_at"], "state = 'running'")
    _partial("uq_job_attempt_live", "job_attempt", ["job_id"], "state = 'running'", unique=True)
    op.create_table(
        "queue_lock",
        sa.Column("queue_name", sa.Text(), nullable=False),
        sa.Column("job_id", _big, nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("acquired_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("queue_name", name="pk_queue_lock"),
        sa.UniqueConstraint("token", name="uq_queue_lock_token"),
        sa.ForeignKeyConstraint(["job_id"], ["job_request.id"], name="fk_queue_lock_job_id", ondelete="CASCADE"),
    )


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
