"""The ledger's tables: in an empty database, or beside the rows of the reference's own `job_request`."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)
_false = sa.text("false")


def upgrade() -> None:
    """Make the tables and their indexes."""
    if sa.inspect(op.get_bind()).has_table("job_request"):
        _adopt()
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


def _adopt() -> None:
    """Bring the reference's table to this form in place; its columns keep their meanings.

    Waiting jobs stay so. What a process had been given is interrupted: nobody knows how far it came, and nothing says
    that it may be repeated. Ids stay, so that what refers to them does.
    """
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    found = {column["name"]: column for column in sa.inspect(connection).get_columns("job_request")}
    lacking = sorted({"id", "payload", "queue_name", "job_type", "assigned", "status", "updated_at"} - set(found))
    if lacking:
        raise RuntimeError(
            f"there is a table job_request without the columns {', '.join(lacking)}: it is not a job runner's; "
            "rename it, or give the ledger a database or schema of its own"
        )
    with op.batch_alter_table("job_request") as table:
        for column in (
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
        ):
            table.add_column(column)
    kinds: dict[str, Any] = {
        "id": sa.BigInteger(),
        "uid": sa.Uuid(),
        "state": sa.Text(),
        "status": sa.Integer(),
        "cause": sa.Text(),
        "assigned": sa.Boolean(),
        "finished_at": _time,
        "updated_at": _time,
        "queue_name": sa.Text(),
        "locks_queue": sa.Boolean(),
        "result_message": sa.Text(),
    }
    rows = sa.table("job_request", *(sa.column(name, kind) for name, kind in kinds.items()))
    for number in connection.scalars(sa.select(rows.c.id)).all():
        connection.execute(sa.update(rows).where(rows.c.id == number).values(uid=uuid.uuid4()))
    failed, assigned = rows.c.status < 0, rows.c.assigned.is_(True)
    interrupted = sa.and_(sa.not_(failed), assigned)
    connection.execute(sa.update(rows).values(state="waiting"))
    connection.execute(
        sa.update(rows)
        .where(interrupted)
        .values(state="failed", status=-1, cause="interrupted_by_migration", finished_at=sa.func.current_timestamp())
    )
    connection.execute(
        sa.update(rows)
        .where(sa.and_(failed, rows.c.cause == ""))
        .values(state="failed", cause="JobError", finished_at=rows.c.updated_at)
    )
    connection.execute(sa.update(rows).where(rows.c.queue_name.is_(None)).values(queue_name=""))
    connection.execute(sa.update(rows).where(rows.c.locks_queue.is_(None)).values(locks_queue=False))
    connection.execute(sa.update(rows).where(rows.c.result_message.is_(None)).values(result_message=""))
    defaults: dict[str, Any] = {"result_message": "", "locks_queue": _false, "assigned": _false, "status": sa.text("0")}
    with op.batch_alter_table(
        "job_request",
        table_kwargs={"sqlite_autoincrement": True},
        naming_convention={"pk": "pk_%(table_name)s"},
    ) as table:
        table.alter_column("id", existing_type=sa.Integer(), type_=_big, existing_nullable=False, autoincrement=True)
        for name in ("payload", "queue_name", "job_type", "uid", "state"):
            table.alter_column(name, nullable=False)
        for name, default in defaults.items():
            table.alter_column(name, nullable=False, server_default=default)
        for name in ("created_at", "updated_at"):
            timezone = getattr(found[name]["type"], "timezone", False)
            converted: dict[str, Any] = {"type_": _time, "postgresql_using": f"{name} AT TIME ZONE 'UTC'"}
            table.alter_column(name, nullable=False, server_default=None, **({} if sqlite or timezone else converted))
        table.create_unique_constraint("uq_job_request_uid", ["uid"])
        table.create_check_constraint(
            op.f("ck_job_request_state"), "state IN ('waiting', 'running', 'succeeded', 'failed')"
        )


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
