"""Assigned contacts, the start of a campaign, and the cache of the numbers on texters' pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the cache. Campaigns with an assignment count as started."""
    op.add_column("campaign", sa.Column("assigning", sa.Text(), nullable=False, server_default="open"))
    op.add_column("campaign", sa.Column("started_at", sa.DateTime(timezone=True)))
    op.add_column("assignment", sa.Column("max_contacts", sa.Integer()))
    op.execute(
        "UPDATE campaign SET started_at = (SELECT min(created_at) FROM assignment WHERE campaign_id = campaign.id)"
    )
    # Until now each request to send created an assignment. Keep each texter's first one only.
    first = (
        "(SELECT min(other.id) FROM assignment AS other"
        " WHERE other.campaign_id = assignment.campaign_id AND other.texter = assignment.texter)"
    )
    theirs = f"(SELECT {first} FROM assignment WHERE assignment.id = contact.assignment_id)"  # noqa: S608 (constants)
    op.execute(f"UPDATE contact SET assignment_id = {theirs} WHERE assignment_id IS NOT NULL")  # noqa: S608
    op.execute(f"DELETE FROM assignment WHERE id > {first}")  # noqa: S608
    op.drop_index("ix_assignment_campaign_id", "assignment")
    op.create_index("ix_assignment_campaign_id_texter", "assignment", ["campaign_id", "texter"], unique=True)
    op.create_table(
        "campaign_cache",
        sa.Column(
            "campaign_id",
            sa.Integer(),
            sa.ForeignKey("campaign.id", name="fk_campaign_cache_campaign_id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("script", sa.Text(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("contacts", sa.Integer(), nullable=False),
        sa.Column("texters", sa.JSON(), nullable=False),
        sa.Column("warmed_at", sa.DateTime(timezone=True), nullable=False),
    )
