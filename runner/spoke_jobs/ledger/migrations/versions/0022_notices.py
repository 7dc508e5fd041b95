"""Notices about failed jobs: what is counted, what is to be sent, and what is muted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.migrations.connection import inspector

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLES = ("notice_channel", "notice_seen", "notice_group", "notice_outbox", "notice_mute")
_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    for name in _TABLES:
        if inspector().has_table(name):
            raise MigrationRefused(
                f"the database has a table `{name}`, a name of the ledger's: rename it, then migrate again"
            )
    op.create_table(
        "notice_channel",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", _time, nullable=False),
        sa.Column("looked_at", _time, nullable=False),
        sa.Column("digest_at", _time),
        sa.Column("holder", sa.Text(), nullable=False, server_default=""),
        sa.Column("token", sa.Uuid()),
        sa.Column("lease_until", _time),
        sa.PrimaryKeyConstraint("name", name="pk_notice_channel"),
    )
    op.create_table(
        "notice_seen",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("job_id", _big, autoincrement=False, nullable=False),
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("finished_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("channel", "job_id", "run", name="pk_notice_seen"),
    )
    op.create_table(
        "notice_group",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("known_since", _time, nullable=False),
        sa.Column("newest_at", _time, nullable=False),
        sa.Column("oldest_at", _time),
        sa.Column("unreported", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("job_id", _big, nullable=False),
        sa.Column("reported_at", _time),
        sa.PrimaryKeyConstraint("channel", "group_key", name="pk_notice_group"),
    )
    op.create_table(
        "notice_outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("next_try_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice_outbox"),
    )
    op.create_table(
        "notice_mute",
        sa.Column("id", _big, autoincrement=True, nullable=False),
        sa.Column("job_type", sa.Text()),
        sa.Column("cause", sa.Text()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("until", _time, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("muted_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("muted_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice_mute"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the tables. Notices that were not sent are lost."""
    for name in reversed(_TABLES):
        op.drop_table(name)
