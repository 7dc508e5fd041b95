"""Who started an attempt: a job's attempts may run in workers and in pods."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Earlier attempts do not say it."""
    op.add_column("job_attempt", sa.Column("runner", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job_attempt", "runner")
