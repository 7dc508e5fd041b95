"""Rows that the tests begin with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.orm import Session, sessionmaker

from texting.models import Campaign, OptOut, Organization, utc_now


def make_campaign(
    sessions: sessionmaker[Session], *, opted_out: Iterable[str] = (), script: str = "Hi {firstName}!"
) -> Campaign:
    """A campaign of a new organisation, with these numbers opted out a day ago."""
    with sessions.begin() as session:
        organization = Organization(name="Neighbours")
        session.add(organization)
        session.flush()
        yesterday = utc_now() - timedelta(days=1)
        session.add_all(OptOut(organization_id=organization.id, cell=cell, created_at=yesterday) for cell in opted_out)
        campaign = Campaign(organization_id=organization.id, title="Sunday", script=script)
        session.add(campaign)
    return campaign
