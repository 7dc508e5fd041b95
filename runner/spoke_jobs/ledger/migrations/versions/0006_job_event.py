"""Events: who cancelled, retried or deleted what, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table. Its rows outlive those of their jobs, so they have no foreign key."""
    if inspector().has_table("job_event"):
        raise MigrationRefused(
            "the database has a table `job_event`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "job_event",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, server_default=""),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("job_id", _big, nullable=True),
        sa.Column("job_type", sa.Text(), nullable=False, server_default=""),
        sa.Column("detail", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_job_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_event_at", "job_event", ["at"])
    op.create_index("ix_job_event_job_id", "job_event", ["job_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("job_event")
