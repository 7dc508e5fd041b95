"""The index of the order of claims has the time from which a job is due: a search passes over the others in it."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import create_index_on_history, runs_on_sqlite

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_WAITING = "state = 'waiting'"
_OLD, _NEW = "ix_job_request_waiting", "ix_job_request_due"
_ORDER = ["runner", "rank", "id"]


def upgrade() -> None:
    """Create the index, and drop the one without that time. SQLite, whose tables are small, keeps that one."""
    if not runs_on_sqlite():
        create_index_on_history(_NEW, [*_ORDER, "coalesce(run_after, '-infinity'::timestamptz)"], _WAITING)
        op.drop_index(_OLD, "job_request")


def downgrade() -> None:
    """Create the earlier one again."""
    if not runs_on_sqlite():
        create_index_on_history(_OLD, _ORDER, _WAITING)
        op.drop_index(_NEW, "job_request")
