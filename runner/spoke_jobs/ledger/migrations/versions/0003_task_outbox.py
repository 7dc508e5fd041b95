"""The outbox: tasks that were dispatched in a caller's transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, and an index for each of its two queries."""
    if inspector().has_table("task_outbox"):
        raise MigrationRefused(
            "the database has a table `task_outbox`, which is one of the ledger's names: rename it, then migrate again"
        )
    op.create_table(
        "task_outbox",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("uid", sa.Uuid(), nullable=False),
        sa.Column("runner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="pending"),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("losses", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("token", sa.Uuid()),
        sa.Column("worker", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("due_at", _time, nullable=False),
        sa.Column("finished_at", _time),
        sa.Column("expires_at", _time),
        sa.Column("cause", sa.Text(), nullable=False, server_default=""),
        sa.Column("error_type", sa.Text(), nullable=False, server_default=""),
        sa.CheckConstraint("state IN ('pending', 'failed')", name=op.f("ck_task_outbox_state")),
        sa.PrimaryKeyConstraint("id", name="pk_task_outbox"),
        sqlite_autoincrement=True,
    )
    _partial("ix_task_outbox_due", ["runner", "due_at", "id"], "state = 'pending'")
    _partial("ix_task_outbox_expires_at", ["expires_at"], "expires_at IS NOT NULL")


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("task_outbox")


def _partial(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "task_outbox", columns, postgresql_where=condition, sqlite_where=condition)
