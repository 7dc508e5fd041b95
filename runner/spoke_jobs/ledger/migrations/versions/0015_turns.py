"""An index of the waiting jobs that have an organization, for turns among organizations."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_NAME = "ix_job_request_turns"
_COLUMNS = ["runner", "organization_id", "rank", "id"]


def upgrade() -> None:
    """Create the index."""
    create_index_on_history(_NAME, _COLUMNS, "state = 'waiting' AND organization_id IS NOT NULL")


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_NAME, "job_request")
