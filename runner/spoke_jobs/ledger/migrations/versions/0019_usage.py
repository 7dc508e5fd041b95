"""Usage: the peak memory, the CPU time and the wall time of each attempt. An index of the successes of each type."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_COLUMNS = ("peak_memory_bytes", "cpu_milliseconds", "wall_milliseconds")
_INDEX = "ix_job_request_succeeded"
_WHERE = "state = 'succeeded' AND length(job_type) <= 200"


def upgrade() -> None:
    """Add the columns and the index. Nothing is known of what earlier attempts used."""
    for name in _COLUMNS:
        op.add_column("job_attempt", sa.Column(name, sa.BigInteger(), nullable=True))
    create_index_on_history(_INDEX, ["job_type", "id"], _WHERE)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(_INDEX, "job_request")
    for name in reversed(_COLUMNS):
        op.drop_column("job_attempt", name)
