"""The ledger's tables, in an empty database."""

from __future__ import annotations

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
    op.create_index("ix_job_request_queue_name", "job_request", ["queue_name"])
    _partial("ix_job_request_waiting", "job_request", ["runner", "id"], "state = 'waiting'")
    _partial(
        "ix_job_request_unlaunched",
        "job_request",
        ["id"],
        "state = 'waiting' AND runner = 'kubernetes' AND submitted_at IS NULL",
    )
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
