"""Rows that the tests begin with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session, sessionmaker

from texting.models import Assignment, Campaign, Contact, OptOut, Organization, utc_now

BOTH = pytest.mark.parametrize("texting_database_url", ["sqlite", "postgresql"], indirect=True)
"""On both databases, whose locks differ."""


def make_campaign(
    sessions: sessionmaker[Session], *, opted_out: Iterable[str] = (), script: str = "Hi {firstName}!"
) -> Campaign:
    """A campaign of a new organization, with these numbers opted out a day ago."""
    with sessions.begin() as session:
        organization = Organization(name="Neighbours")
        session.add(organization)
        session.flush()
        yesterday = utc_now() - timedelta(days=1)
        session.add_all(OptOut(organization_id=organization.id, cell=cell, created_at=yesterday) for cell in opted_out)
        campaign = Campaign(organization_id=organization.id, title="Sunday", script=script)
        session.add(campaign)
    return campaign


def add_contacts(sessions: sessionmaker[Session], campaign: Campaign, count: int) -> None:
    """That many contacts more, with the numbers +1 212 555 0000 and so on where they are the campaign's first."""
    with sessions.begin() as session:
        before = len(session.scalars(select(Contact.id).where(Contact.campaign_id == campaign.id)).all())
        blank = {"zip": "", "external_id": "", "custom_fields": {}, "import_uid": uuid4()}
        session.execute(
            insert(Contact),
            [
                {"campaign_id": campaign.id, "first_name": "Ann", "last_name": "Lee", "cell": cell_of(number), **blank}
                for number in range(before, before + count)
            ],
        )


def cell_of(number: int) -> str:
    """The number of a campaign's contact, the first being 0."""
    return f"+1212{5_550_000 + number}"


def start(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    """Mark a campaign as started, whatever it lacks."""
    with sessions.begin() as session:
        session.get_one(Campaign, campaign.id).started_at = utc_now()


def holders(sessions: sessionmaker[Session], campaign: Campaign) -> list[str | None]:
    """Who holds each of the campaign's contacts, by the contact's id."""
    query = (
        select(Assignment.texter)
        .select_from(Contact)
        .outerjoin(Assignment, Assignment.id == Contact.assignment_id)
        .where(Contact.campaign_id == campaign.id)
        .order_by(Contact.id)
    )
    with sessions() as session:
        return list(session.scalars(query))
