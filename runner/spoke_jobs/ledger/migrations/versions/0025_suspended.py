"""Suspended jobs: a column with the time since when no attempt of a job starts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. No job is suspended yet."""
    op.add_column("job_request", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column. Jobs that are suspended then wait as others do, and start."""
    op.drop_column("job_request", "suspended_at")
