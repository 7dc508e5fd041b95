"""Indexes of the failed jobs by id, and of the ended jobs of each organization, for lists and counts."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_job_request_failed_by_id": (["id"], "state = 'failed'"),
    "ix_job_request_ended": (
        ["organization_id", "state", "id"],
        "organization_id IS NOT NULL AND state IN ('succeeded', 'failed')",
    ),
}


def upgrade() -> None:
    """Create the indexes."""
    for name, (columns, where) in _INDEXES.items():
        create_index_on_history(name, columns, where)


def downgrade() -> None:
    """Drop them."""
    for name in reversed(_INDEXES):
        op.drop_index(name, "job_request")
