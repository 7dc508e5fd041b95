"""Limits, rates and pauses that workers obey."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table."""
    if inspector().has_table("job_limit"):
        raise MigrationRefused(
            "the database has a table `job_limit`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "job_limit",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("max_running", sa.Integer()),
        sa.Column("rate_count", sa.Integer()),
        sa.Column("rate_seconds", sa.Integer()),
        sa.Column("burst", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("full_at", _time),
        sa.Column("paused_at", _time),
        sa.Column("paused_until", _time),
        sa.Column("paused_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("paused_reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("source", sa.Text(), nullable=False, server_default="runtime"),
        sa.Column("declared", sa.JSON()),
        sa.Column("declared_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("updated_at", _time, nullable=False),
        sa.CheckConstraint("source IN ('default', 'runtime')", name=op.f("ck_job_limit_source")),
        sa.PrimaryKeyConstraint("id", name="pk_job_limit"),
        sa.UniqueConstraint("scope", name="uq_job_limit_scope"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("job_limit")
