"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "organization",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
    )
    op.create_table(
        "campaign",
        _id(),
        _reference("campaign", "organization"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("script", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
    )
    op.create_table(
        "opt_out",
        _id(),
        _reference("opt_out", "organization"),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.UniqueConstraint("organization_id", "cell", name="uq_opt_out_organization_id_cell"),
    )
    op.create_table(
        "upload",
        _id(),
        _reference("upload", "campaign"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("custom_fields", sa.JSON(), nullable=False),
        sa.Column("summary", sa.JSON(none_as_null=True)),
        sa.Column("created_at", _time, nullable=False),
    )
    op.create_table(
        "assignment",
        _id(),
        _reference("assignment", "campaign"),
        sa.Column("texter", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
    )
    op.create_table(
        "contact",
        _id(),
        _reference("contact", "campaign"),
        _reference("contact", "assignment", nullable=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("first_name", "last_name", "cell", "zip", "external_id")
        ),
        sa.Column("custom_fields", sa.JSON(), nullable=False),
        sa.Column("import_uid", sa.Uuid(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.UniqueConstraint("campaign_id", "cell", name="uq_contact_campaign_id_cell"),
    )
    op.create_table(
        "message",
        _id(),
        _reference("message", "contact"),
        sa.Column("key", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("text", "state", "error")),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("sent_at", _time),
        sa.UniqueConstraint("key", name="uq_message_key"),
    )
    op.create_table(
        "export_file",
        _id(),
        _reference("export_file", "campaign"),
        sa.Column("job_uid", sa.Uuid(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.UniqueConstraint("job_uid", name="uq_export_file_job_uid"),
    )
    for table, column in (
        ("campaign", "organization_id"),
        ("upload", "campaign_id"),
        ("assignment", "campaign_id"),
        ("contact", "assignment_id"),
        ("contact", "import_uid"),
        ("message", "contact_id"),
        ("export_file", "campaign_id"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer(), primary_key=True)


def _reference(table: str, to: str, *, nullable: bool = False) -> sa.Column[int]:
    name = f"{to}_id"
    key = sa.ForeignKey(f"{to}.id", name=f"fk_{table}_{name}")
    return sa.Column(name, sa.Integer(), key, nullable=nullable)
