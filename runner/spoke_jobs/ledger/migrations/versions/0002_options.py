"""Priority, unique keys, start timeouts, cancellation, retention; an index of waiting jobs in the order of claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.ledger.migrations.connection import runs_on_sqlite

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns, and the index that each query needs."""
    op.add_column("job_request", sa.Column("rank", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("job_request", sa.Column("unique_key", sa.Text()))
    for name in ("start_by", "cancel_requested_at", "expires_at"):
        op.add_column("job_request", sa.Column(name, _time))
    op.drop_index("ix_job_request_waiting", "job_request")
    _partial("ix_job_request_waiting", ["runner", "rank", "id"], "state = 'waiting'")
    _partial("ix_job_request_start_by", ["start_by"], "state = 'waiting' AND start_by IS NOT NULL")
    _partial("ix_job_request_expires_at", ["expires_at"], "expires_at IS NOT NULL")
    _partial(
        "uq_job_request_unique_key",
        ["unique_key"],
        "unique_key IS NOT NULL AND state IN ('waiting', 'running')",
        unique=True,
    )
    # For jobs that ended before this migration, the retention of seven days starts now.
    week = "strftime('%Y-%m-%d %H\\:%M\\:%f000', 'now', '+7 days')" if runs_on_sqlite() else "now() + interval '7 days'"
    op.execute(sa.text(f"UPDATE job_request SET expires_at = {week} WHERE state IN ('succeeded', 'failed')"))  # noqa: S608


def downgrade() -> None:
    """Drop the indexes and the columns."""
    for name in ("uq_job_request_unique_key", "ix_job_request_expires_at", "ix_job_request_start_by"):
        op.drop_index(name, "job_request")
    op.drop_index("ix_job_request_waiting", "job_request")
    _partial("ix_job_request_waiting", ["runner", "id"], "state = 'waiting'")
    with op.batch_alter_table("job_request", table_kwargs={"sqlite_autoincrement": True}) as table:
        for name in ("expires_at", "cancel_requested_at", "start_by", "unique_key", "rank"):
            table.drop_column(name)


def _partial(name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, "job_request", columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
