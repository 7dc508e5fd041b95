"""Batches: sets of jobs that are counted together, with a job that follows them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, and the columns of its jobs."""
    if inspector().has_table("job_batch"):
        raise MigrationRefused(
            "the database has a table `job_batch`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "job_batch",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("on_failed", sa.Text(), nullable=False, server_default="fail"),
        *(
            sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0"))
            for name in ("total", "succeeded", "failed")
        ),
        sa.Column("then_id", _big),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("closed_at", _time),
        sa.Column("finished_at", _time),
        sa.PrimaryKeyConstraint("id", name="pk_job_batch"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_batch_then_id", "job_batch", ["then_id"])
    op.add_column("job_request", sa.Column("batch_id", _big))
    op.add_column("job_request", sa.Column("batch_open", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    condition = sa.text("batch_id IS NOT NULL")
    op.create_index(
        "ix_job_request_batch_id",
        "job_request",
        ["batch_id"],
        postgresql_where=condition,
        sqlite_where=condition,
    )


def downgrade() -> None:
    """Drop them. Jobs that follow a batch fail with the next downgrade, as all blocked jobs."""
    op.drop_index("ix_job_request_batch_id", "job_request")
    op.drop_column("job_request", "batch_open")
    op.drop_column("job_request", "batch_id")
    op.drop_table("job_batch")
