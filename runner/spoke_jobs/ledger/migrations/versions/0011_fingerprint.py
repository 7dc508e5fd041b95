"""Fingerprints: the type and the place of the exception that failed a job. Indexes of failed and of blocked jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_INDEXES = {"ix_job_request_failed": ("finished_at", "failed"), "ix_job_request_blocked": ("id", "blocked")}


def upgrade() -> None:
    """Add the column and the indexes. Jobs that have failed before have no fingerprint."""
    op.add_column("job_request", sa.Column("fingerprint", sa.Text(), nullable=False, server_default=""))
    for name, (column, state) in _INDEXES.items():
        create_index_on_history(name, [column], f"state = '{state}'")


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(name, "job_request")
    op.drop_column("job_request", "fingerprint")
