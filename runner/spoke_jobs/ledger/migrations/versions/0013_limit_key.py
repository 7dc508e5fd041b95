"""What a job uses, so that a limit can apply to all jobs that use it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("job_request", sa.Column("limit_key", sa.Text()))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job_request", "limit_key")
