"""An index of all jobs with a unique key, for dispatches with ``unique_for``."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NAME = "ix_job_request_unique_key"


def upgrade() -> None:
    """Create the index."""
    create_index_on_history(_NAME, ["unique_key", "created_at"], "unique_key IS NOT NULL")


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_NAME, "job_request")
