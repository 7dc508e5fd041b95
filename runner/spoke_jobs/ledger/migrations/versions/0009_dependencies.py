"""Jobs that depend on others: the state `blocked`, and which job runs after which."""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector, reading, runs_on_sqlite

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_false = sa.text("false")
_STATES = "state IN ({}'waiting', 'running', 'succeeded', 'failed')"
_UNFINISHED = "unique_key IS NOT NULL AND state IN ('waiting', 'running'{})"
_POSTGRESQL_TRIGGER = """
CREATE OR REPLACE FUNCTION spoke_jobs_other_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
{}    IF NEW.assigned AND NOT OLD.assigned AND OLD.state = 'waiting' THEN
        NEW.runner := 'reference';
    ELSIF NOT NEW.assigned AND OLD.runner = 'reference' THEN
        NEW.runner := 'legacy';
    ELSIF NEW.assigned AND OLD.assigned AND NEW.status = OLD.status AND NEW.result_message = OLD.result_message
            AND NEW.updated_at = OLD.updated_at THEN
        RETURN NULL;  -- another process has the job: the UPDATE reports that it changed no row
    END IF;
    RETURN NEW;
END $$
"""
_NOT_BLOCKED = """    IF NEW.assigned AND OLD.state = 'blocked' AND NEW.state = 'blocked' THEN
        RETURN NULL;  -- it waits for other jobs
    END IF;
"""
_SQLITE_TRIGGERS = {
    "spoke_jobs_other_assigns_blocked": """
BEFORE UPDATE OF assigned ON job_request WHEN NEW.assigned AND OLD.state = 'blocked' AND NEW.state = 'blocked'
BEGIN
    SELECT RAISE(IGNORE);
END
""",
    # Other code's connections may not enforce foreign keys, which SQLite leaves off by default.
    "spoke_jobs_other_deletes_needed": """
BEFORE DELETE ON job_request WHEN EXISTS (SELECT 1 FROM job_dependency WHERE needs_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'other jobs depend on this job');
END
""",
    "spoke_jobs_other_deletes_dependencies": """
AFTER DELETE ON job_request
BEGIN
    DELETE FROM job_dependency WHERE job_id = OLD.id;
END
""",
}


def upgrade() -> None:
    """Add the columns, the state and the table. No other code can assign a blocked job."""
    if inspector().has_table("job_dependency"):
        raise MigrationRefused(
            "the database has a table `job_dependency`, a name of the ledger's: rename it, then migrate again"
        )
    op.add_column(
        "job_request", sa.Column("open_dependencies", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("job_request", sa.Column("awaited", sa.Boolean(), nullable=False, server_default=_false))
    op.drop_index("uq_job_request_unique_key", "job_request")
    if runs_on_sqlite():
        _rebuild_on_sqlite(_STATES.format("'blocked', "))
    else:
        _replace_check(_STATES.format("'blocked', "))
        op.execute(sa.text(_POSTGRESQL_TRIGGER.format(_NOT_BLOCKED).replace(":", "\\:")))
    _partial("uq_job_request_unique_key", "unique_key", _UNFINISHED.format(", 'blocked'"), unique=True)
    _partial("ix_job_request_unsettled", "id", "awaited AND state IN ('succeeded', 'failed')")
    op.create_table(
        "job_dependency",
        sa.Column("job_id", _big, autoincrement=False, nullable=False),
        sa.Column("needs_id", _big, autoincrement=False, nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("runs_after_failure", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job_request.id"], name=op.f("fk_job_dependency_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["needs_id"], ["job_request.id"], name=op.f("fk_job_dependency_needs_id")),
        sa.PrimaryKeyConstraint("job_id", "needs_id", name=op.f("pk_job_dependency")),
    )
    op.create_index("ix_job_dependency_needs_id", "job_dependency", ["needs_id"])
    if runs_on_sqlite():
        for name, body in _SQLITE_TRIGGERS.items():
            op.execute(sa.text(f"CREATE TRIGGER {name} {body}"))


def downgrade() -> None:
    """Remove them. A blocked job fails, because nothing would start it after the jobs that it depends on."""
    if runs_on_sqlite():
        for name in _SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
    op.drop_table("job_dependency")
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')" if runs_on_sqlite() else "clock_timestamp()"
    op.execute(
        sa.text(
            "UPDATE job_request SET state = 'failed', status = -1, cause = 'DependencyFailed', "  # noqa: S608 (constants)
            f"result_message = 'this release has no dependencies', finished_at = {now}, expires_at = {now} "
            "WHERE state = 'blocked'".replace(":", "\\:")
        )
    )
    op.drop_index("ix_job_request_unsettled", "job_request")
    op.drop_index("uq_job_request_unique_key", "job_request")
    if runs_on_sqlite():
        _rebuild_on_sqlite(_STATES.format(""), without=("awaited", "open_dependencies"))
    else:
        op.execute(sa.text(_POSTGRESQL_TRIGGER.format("").replace(":", "\\:")))
        _replace_check(_STATES.format(""))
        op.drop_column("job_request", "awaited")
        op.drop_column("job_request", "open_dependencies")
    _partial("uq_job_request_unique_key", "unique_key", _UNFINISHED.format(""), unique=True)


def _replace_check(condition: str) -> None:
    op.drop_constraint(op.f("ck_job_request_state"), "job_request", type_="check")
    op.create_check_constraint(op.f("ck_job_request_state"), "job_request", condition)


def _rebuild_on_sqlite(condition: str, without: tuple[str, ...] = ()) -> None:
    """Copy the table with another condition on the state, and create its triggers on the copy."""
    triggers = reading().execute(
        sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'job_request'")
    )
    earlier = import_module("spoke_jobs.ledger.migrations.versions.0005_other_writers")
    found = triggers.all()
    for name, _ in found:
        op.execute(f'DROP TRIGGER "{name}"')
    earlier.rebuild_on_sqlite(condition, without)
    for _, statement in found:
        op.execute(sa.text(statement.replace(":", "\\:")))


def _partial(name: str, column: str, where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, "job_request", [column], unique=unique, postgresql_where=condition, sqlite_where=condition)
