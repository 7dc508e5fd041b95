"""Rates of each queue, type or organization: a bucket for each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TABLE = "job_limit_bucket"
_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table. No limit has several buckets yet."""
    if inspector().has_table(_TABLE):
        raise MigrationRefused(
            f"the database has a table `{_TABLE}`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        _TABLE,
        sa.Column("limit_id", _big, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("full_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["limit_id"], ["job_limit.id"], name="fk_job_limit_bucket_limit_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("limit_id", "name", name="pk_job_limit_bucket"),
    )
    op.create_index("ix_job_limit_bucket_limit_id", _TABLE, ["limit_id", "full_at"])


def downgrade() -> None:
    """Drop the table. The earlier release continues with one bucket for each limit: the one that is full last."""
    op.drop_table(_TABLE)
