"""Schedules: a table, and two columns of jobs that say which schedule dispatched them, and for what time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_time = sa.DateTime(timezone=True)
_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table and its index, and add the columns with theirs. No row has a schedule yet."""
    if inspector().has_table("job_schedule"):
        raise MigrationRefused(
            "the database has a table `job_schedule`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "job_schedule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("runner", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("next_due_at", _time),
        sa.Column("served_at", _time),
        sa.Column("paused_at", _time),
        sa.Column("paused_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("last_due_at", _time),
        sa.Column("last_job_id", _big),
        sa.Column("last_skip", sa.JSON()),
        sa.Column("error", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("updated_at", _time, nullable=False),
        sa.CheckConstraint("origin IN ('code', 'dynamic')", name=op.f("ck_job_schedule_origin")),
        sa.PrimaryKeyConstraint("name", name="pk_job_schedule"),
    )
    _partial("ix_job_schedule_due", "job_schedule", ["runner", "next_due_at"],
             "paused_at IS NULL AND next_due_at IS NOT NULL")  # fmt: skip
    op.add_column("job_request", sa.Column("schedule", sa.Text()))
    op.add_column("job_request", sa.Column("scheduled_for", _time))
    _partial(
        "uq_job_request_schedule", "job_request", ["schedule", "scheduled_for"], "schedule IS NOT NULL", unique=True
    )
    _partial("ix_job_request_schedule_unfinished", "job_request", ["schedule"],
             "schedule IS NOT NULL AND state IN ('waiting', 'running', 'blocked')")  # fmt: skip


def downgrade() -> None:
    """Drop the indexes, the columns and the table. A copy of the jobs' table would lose its triggers on SQLite."""
    for name in ("ix_job_request_schedule_unfinished", "uq_job_request_schedule"):
        op.drop_index(name, "job_request")
    for name in ("scheduled_for", "schedule"):
        op.drop_column("job_request", name)
    op.drop_table("job_schedule")


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
