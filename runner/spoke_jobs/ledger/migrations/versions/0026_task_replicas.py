"""Replicas of the task deployment: a row for each, with the slots that it has and those in use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TABLE = "task_replica"


def upgrade() -> None:
    """Create the table. Replicas of this release write their rows once they have the right to."""
    if inspector().has_table(_TABLE):
        raise MigrationRefused(
            f"the database has a table `{_TABLE}`, a name of the ledger's: rename it, then migrate again"
        )
    op.create_table(
        _TABLE,
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("used_async", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_task_replica"),
    )


def downgrade() -> None:
    """Drop the table. Replicas that run go on without their rows."""
    op.drop_table(_TABLE)
