"""An index of the jobs that lock their queue and have no SpokeJob yet: each waits for the older ones of its queue."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_NAME = "ix_job_request_unlaunched_queue"
_WHERE = "state = 'waiting' AND runner = 'kubernetes' AND submitted_at IS NULL AND locks_queue"


def upgrade() -> None:
    """Create the index."""
    create_index_on_history(_NAME, ["queue_name", "id"], _WHERE)


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_NAME, "job_request")
