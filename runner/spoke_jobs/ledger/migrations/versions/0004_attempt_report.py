"""Reports: what the cluster said about failed attempts, and the output of each container."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table. It is read by its primary key only."""
    if inspector().has_table("attempt_report"):
        raise MigrationRefused(
            "the database has a table `attempt_report`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "attempt_report",
        sa.Column("job_id", _big, autoincrement=False, nullable=False),
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False, server_default=""),
        sa.Column("pod", sa.Text(), nullable=False, server_default=""),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_request.id"], name="fk_attempt_report_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "run", "number", name="pk_attempt_report"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("attempt_report")
