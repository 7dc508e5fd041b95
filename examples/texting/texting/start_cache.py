"""The numbers of a texter's page, counted when the campaign starts.

Counting a campaign of a hundred thousand contacts is slow, and at the start all its texters open their pages at once.
The task `campaign_start_cache` therefore counts once, and stores the numbers in one row for each campaign. The row is
never wrong: every change of a number locks the campaign, as the counting does, and also changes the row in the same
transaction. Sending, which is frequent, updates the row. All other changes delete it and dispatch the task again.
Without the row, a page counts by itself, with the same result. The task may be lost, so a page that had to count
dispatches it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import and_, case, delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from texting.assigning import opted_out, written
from texting.database import lock_campaign
from texting.exporting import count_contacts, custom_field_names
from texting.models import Assignment, Campaign, CampaignCache, Contact


@dataclass(frozen=True, slots=True)
class TexterNumbers:
    """A texter's numbers."""

    contacts: int = 0
    to_write: int = 0
    """The number of contacts that nobody has written to and that have not opted out."""
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class CampaignNumbers:
    """A campaign's numbers."""

    script: str
    fields: tuple[str, ...]
    """The custom fields that contacts have."""
    contacts: int
    """Without the new contacts of an import that is still running."""
    texters: Mapping[str, TexterNumbers]
    warmed_at: datetime | None = None
    """When the cached numbers were counted. None: they were counted just now."""


def read_numbers(session: Session, campaign: Campaign) -> CampaignNumbers:
    """Return the campaign's numbers from the cache, or count them."""
    cached = session.get(CampaignCache, campaign.id)
    if cached is None:
        return count(session, campaign)
    texters = {texter: TexterNumbers(**numbers) for texter, numbers in cached.texters.items()}  # type: ignore[arg-type]
    return CampaignNumbers(cached.script, tuple(cached.fields), cached.contacts, texters, cached.warmed_at)


def count(session: Session, campaign: Campaign) -> CampaignNumbers:
    """Count the campaign's numbers now."""
    to_write = and_(Contact.id.is_not(None), ~written, ~opted_out)
    rows = session.execute(
        select(
            Assignment.texter,
            Assignment.max_contacts,
            func.count(Contact.id),
            func.coalesce(func.sum(case((to_write, 1), else_=0)), 0),
        )
        .join(Campaign, Campaign.id == Assignment.campaign_id)
        .outerjoin(Contact, Contact.assignment_id == Assignment.id)
        .where(Assignment.campaign_id == campaign.id)
        .group_by(Assignment.id)
        .order_by(Assignment.id)
    )
    return CampaignNumbers(
        script=campaign.script,
        fields=custom_field_names(session, campaign.id),
        contacts=count_contacts(session, campaign.id),
        texters={texter: TexterNumbers(contacts, unwritten, maximum) for texter, maximum, contacts, unwritten in rows},
    )


def warm(campaign_id: int, sessions: sessionmaker[Session]) -> None:
    """Count a started campaign, unless its row exists. A second call changes nothing.

    :raises LookupError: if there is no such campaign.
    """
    with sessions.begin() as session:
        campaign = lock_campaign(session, campaign_id)
        if campaign.started_at is None or session.get(CampaignCache, campaign_id) is not None:
            return
        numbers = count(session, campaign)
        session.add(
            CampaignCache(
                campaign_id=campaign_id,
                script=numbers.script,
                fields=list(numbers.fields),
                contacts=numbers.contacts,
                texters={texter: asdict(each) for texter, each in numbers.texters.items()},
            )
        )


def forget(session: Session, campaign_id: int) -> bool:
    """Delete the row, and block counting until the session's transaction ends. The caller commits.

    :returns: whether the campaign must be counted again.
    """
    campaign = lock_campaign(session, campaign_id)
    session.execute(delete(CampaignCache).where(CampaignCache.campaign_id == campaign_id))
    return campaign.started_at is not None


def note_written(session: Session, campaign_id: int, texter: str, *, own: int, taken: int) -> None:
    """Update the row for new messages of the texter. The caller has locked the campaign.

    :param own: messages to contacts that were assigned to the texter before.
    :param taken: messages to contacts that were free.
    """
    cached = session.get(CampaignCache, campaign_id, populate_existing=True)
    if cached is None:
        return
    numbers = cached.texters.get(texter) or asdict(TexterNumbers())
    changed = {"contacts": (numbers["contacts"] or 0) + taken, "to_write": (numbers["to_write"] or 0) - own}
    # A new dictionary, because SQLAlchemy does not detect changes within JSON.
    cached.texters = {**cached.texters, texter: {**numbers, **changed}}
