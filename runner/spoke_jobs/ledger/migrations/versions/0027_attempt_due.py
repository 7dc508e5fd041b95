"""When an attempt was due: its claim removes that from the job's row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Of earlier attempts, and of those that workers of an earlier release claim, it is not known."""
    op.add_column("job_attempt", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job_attempt", "due_at")
