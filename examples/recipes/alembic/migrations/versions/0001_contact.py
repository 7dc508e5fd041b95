"""Contacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "contact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("job_id", sa.Integer()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_contact_name", "contact", ["name"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("contact")
