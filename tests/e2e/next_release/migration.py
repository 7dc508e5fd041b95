"""What the next release adds to the ledger, as migrations within a series do: nothing that an older release minds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns of the tables that jobs write to while they run, an index, and a table."""
    op.add_column("job_request", sa.Column("of_next_release", sa.Text(), nullable=True))
    op.add_column("job_attempt", sa.Column("of_next_release", sa.Integer(), nullable=False, server_default="1"))
    op.create_index("ix_job_request_of_next_release", "job_request", ["of_next_release"])
    op.create_table("of_next_release", sa.Column("id", sa.Integer(), primary_key=True))
