"""Rows that other code inserts and assigns: defaults for all columns, and triggers.

The reference's own code, and any code that knows only the columns of the reference, can keep writing `job_request`.
Such a row has the options `{}`: the process that claims it fills in those that its type declares. A row that other code
marks as assigned gets the runner `reference`, which no process of this library claims.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from spoke_jobs.ledger.migrations.connection import runs_on_sqlite

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_DEFAULTED = {
    "uid": (sa.Uuid(), "gen_random_uuid()"),
    "state": (sa.Text(), "'waiting'"),
    "runner": (sa.Text(), "'legacy'"),
    "options": (sa.JSON(), "'{}'"),
    "created_at": (sa.DateTime(timezone=True), "clock_timestamp()"),
    "updated_at": (sa.DateTime(timezone=True), "clock_timestamp()"),
}
"""The columns that get a default, with PostgreSQL's expression."""
_MESSAGE = (
    "the job was assigned to a process when the table was migrated. It may have run in part. "
    "If it may be repeated: spoke-jobs retry ID"
)

_POSTGRESQL_UP = (
    """
CREATE FUNCTION spoke_jobs_other_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.uid := coalesce(NEW.uid, gen_random_uuid());
    NEW.result_message := coalesce(NEW.result_message, '');
    NEW.status := coalesce(NEW.status, 0);
    NEW.assigned := coalesce(NEW.assigned, false);
    NEW.locks_queue := coalesce(NEW.locks_queue, false);
    NEW.created_at := coalesce(NEW.created_at, clock_timestamp());
    NEW.updated_at := coalesce(NEW.updated_at, clock_timestamp());
    IF NEW.assigned AND NEW.options\\:\\:text = '{}' THEN
        NEW.runner := 'reference';
    END IF;
    RETURN NEW;
END $$
""",
    # The conditions are short, because PostgreSQL parses them in each statement: dispatches and claims pay for that.
    # Most rows are inserted unassigned, and pass by. A dispatch of this library always writes options.
    """
CREATE TRIGGER spoke_jobs_other_insert BEFORE INSERT ON job_request FOR EACH ROW
WHEN (NEW.assigned IS NOT FALSE) EXECUTE FUNCTION spoke_jobs_other_insert()
""",
    """
CREATE FUNCTION spoke_jobs_other_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.assigned AND NOT OLD.assigned AND OLD.state = 'waiting' THEN
        NEW.runner := 'reference';
    ELSIF NOT NEW.assigned AND OLD.runner = 'reference' THEN
        NEW.runner := 'legacy';
    ELSIF NEW.assigned AND OLD.assigned AND NEW.status = OLD.status AND NEW.result_message = OLD.result_message
            AND NEW.updated_at = OLD.updated_at THEN
        RETURN NULL;  -- another process has the job: the UPDATE reports that it changed no row
    END IF;
    RETURN NEW;
END $$
""",
    # Where this library writes `assigned`, the state changes, too.
    """
CREATE TRIGGER spoke_jobs_other_update BEFORE UPDATE OF assigned ON job_request FOR EACH ROW
WHEN (NEW.state = OLD.state OR OLD.runner = 'reference') EXECUTE FUNCTION spoke_jobs_other_update()
""",
)
_POSTGRESQL_DOWN = (
    "DROP TRIGGER spoke_jobs_other_update ON job_request",
    "DROP FUNCTION spoke_jobs_other_update()",
    "DROP TRIGGER spoke_jobs_other_insert ON job_request",
    "DROP FUNCTION spoke_jobs_other_insert()",
)

_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now'{})"
_SQLITE_UUID = (
    "lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || '8' || substr(hex(randomblob(8)), 2))"
)
_SQLITE_DEFAULTS = {"uid": _SQLITE_UUID} | dict.fromkeys(("created_at", "updated_at"), _SQLITE_NOW.format(""))
_SQLITE_TRIGGERS = {
    "spoke_jobs_other_insert": """
AFTER INSERT ON job_request WHEN NEW.assigned AND NEW.options = '{}'
BEGIN
    UPDATE job_request SET runner = 'reference' WHERE id = NEW.id;
END
""",
    "spoke_jobs_other_assigns_again": """
BEFORE UPDATE OF assigned ON job_request
WHEN NEW.assigned AND OLD.assigned AND NEW.state = OLD.state AND NEW.status = OLD.status
     AND NEW.result_message = OLD.result_message AND NEW.updated_at = OLD.updated_at
BEGIN
    SELECT RAISE(IGNORE);
END
""",
    "spoke_jobs_other_assigns": """
AFTER UPDATE OF assigned ON job_request
WHEN (NEW.state = 'waiting' AND OLD.state = 'waiting' AND NEW.assigned AND NOT OLD.assigned)
     OR (OLD.runner = 'reference' AND NOT NEW.assigned)
BEGIN
    UPDATE job_request SET runner = CASE WHEN NEW.assigned THEN 'reference' ELSE 'legacy' END WHERE id = NEW.id;
END
""",
    # Other code's connections may not enforce foreign keys, which SQLite leaves off by default.
    "spoke_jobs_other_deletes": """
AFTER DELETE ON job_request
BEGIN
    DELETE FROM queue_lock WHERE job_id = OLD.id;
    DELETE FROM attempt_report WHERE job_id = OLD.id;
    DELETE FROM job_attempt WHERE job_id = OLD.id;
END
""",
}


def upgrade() -> None:
    """Add the defaults and the triggers, and a message to the rows that an earlier migration interrupted."""
    if runs_on_sqlite():
        rebuild_on_sqlite()
        for name, body in _SQLITE_TRIGGERS.items():
            op.execute(sa.text(f"CREATE TRIGGER {name} {body}".replace(":", "\\:")))
    else:
        for name, (_, default) in _DEFAULTED.items():
            op.alter_column("job_request", name, server_default=sa.text(default))
        for statement in _POSTGRESQL_UP:
            op.execute(sa.text(statement))
    op.execute(
        sa.text(
            f"UPDATE job_request SET result_message = '{_MESSAGE}' "  # noqa: S608 (a constant)
            "WHERE cause = 'interrupted_by_migration' AND result_message = ''"
        )
    )


def downgrade() -> None:
    """Remove the triggers and the defaults. On SQLite, the first migration's downgrade changes the defaults."""
    if runs_on_sqlite():
        for name in _SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        return
    for statement in _POSTGRESQL_DOWN:
        op.execute(statement)
    for name in _DEFAULTED:
        op.alter_column("job_request", name, server_default=None)


def rebuild_on_sqlite(states: str = "", without: tuple[str, ...] = ()) -> None:
    """Copy the table, with defaults that also replace an explicit NULL. Its other columns, indexes and keys stay.

    :param states: another condition on the state, of a later migration.
    :param without: columns to leave out, of its downgrade.
    """

    def column(name: str, kind: Any, default: str) -> sa.Column[Any]:
        shown = sa.text(default.replace(":", "\\:"))
        return sa.Column(name, kind, nullable=False, server_default=shown, sqlite_on_conflict_not_null="REPLACE")

    given = [
        column("result_message", sa.Text(), "''"),
        column("locks_queue", sa.Boolean(), "false"),
        column("assigned", sa.Boolean(), "false"),
        column("status", sa.Integer(), "0"),
        *(column(name, kind, _SQLITE_DEFAULTS.get(name, default)) for name, (kind, default) in _DEFAULTED.items()),
    ]
    with op.batch_alter_table(
        "job_request",
        recreate="always",
        reflect_args=tuple(given),
        table_kwargs={"sqlite_autoincrement": True},
        naming_convention={"pk": "pk_%(table_name)s"},
    ) as table:
        if states:
            table.drop_constraint(op.f("ck_job_request_state"), type_="check")
            table.create_check_constraint(op.f("ck_job_request_state"), states)
        for name in without:
            table.drop_column(name)
