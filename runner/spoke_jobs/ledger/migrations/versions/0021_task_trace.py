"""The trace in which a task of the outbox was dispatched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Earlier tasks belong to no trace."""
    op.add_column("task_outbox", sa.Column("traceparent", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("task_outbox", "traceparent")
