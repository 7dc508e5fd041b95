"""Checkpoints, and the results of steps: what running attempts save for later ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector, runs_on_sqlite

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Other code's connections may not enforce foreign keys, which SQLite leaves off by default.
_SQLITE_TRIGGER = """
CREATE TRIGGER spoke_jobs_other_deletes_checkpoints AFTER DELETE ON job_request
BEGIN
    DELETE FROM job_checkpoint WHERE job_id = OLD.id;
END
"""


def upgrade() -> None:
    """Create the table, whose rows are deleted with their jobs."""
    if inspector().has_table("job_checkpoint"):
        raise MigrationRefused(
            "the database has a table `job_checkpoint`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        "job_checkpoint",
        sa.Column("job_id", _big, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_request.id"], name="fk_job_checkpoint_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_job_checkpoint"),
    )
    if runs_on_sqlite():
        op.execute(_SQLITE_TRIGGER)


def downgrade() -> None:
    """Drop the table. Jobs that run again then start from the beginning."""
    if runs_on_sqlite():
        op.execute("DROP TRIGGER spoke_jobs_other_deletes_checkpoints")
    op.drop_table("job_checkpoint")
