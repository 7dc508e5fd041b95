"""A task of the outbox is not older than its INSERT. Otherwise a job could put its tasks before those of others."""

from __future__ import annotations

from alembic import op

from spoke_jobs.ledger.migrations.connection import runs_on_sqlite

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_UP = (
    """
CREATE FUNCTION spoke_jobs_task_times() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.created_at := greatest(NEW.created_at, statement_timestamp());
    NEW.due_at := greatest(NEW.due_at, statement_timestamp());
    RETURN NEW;
END $$
""",
    # The condition is short, because PostgreSQL parses it in each statement. A dispatch of this library does not meet
    # it: it writes the time of the INSERT.
    """
CREATE TRIGGER spoke_jobs_task_times BEFORE INSERT ON task_outbox FOR EACH ROW
WHEN (least(NEW.created_at, NEW.due_at) < statement_timestamp()) EXECUTE FUNCTION spoke_jobs_task_times()
""",
)
_DOWN = ("DROP TRIGGER spoke_jobs_task_times ON task_outbox", "DROP FUNCTION spoke_jobs_task_times()")


def upgrade() -> None:
    """Add the trigger. SQLite has no roles: whoever writes there may do anything."""
    if not runs_on_sqlite():
        for statement in _UP:
            op.execute(statement)


def downgrade() -> None:
    """Remove the trigger."""
    if not runs_on_sqlite():
        for statement in _DOWN:
            op.execute(statement)
