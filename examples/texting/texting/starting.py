"""Decide whether a campaign can be started, and list everything that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from texting.assigning import opted_out
from texting.exporting import count_contacts, custom_field_names
from texting.models import Assigning, Assignment, Campaign, Contact, Upload
from texting.script import unknown_names


class NotStartableError(Exception):
    """The campaign can't be started. The message names everything that is missing."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The facts that decide on a campaign's start."""

    script: str
    custom_fields: Sequence[str]
    contacts: int
    writable: bool
    """Whether there is a contact that has not opted out."""
    unfinished_uploads: Sequence[int]
    assigning: Assigning
    texters: int
    assigned: bool
    """Whether a texter has contacts."""


def lacking(ready: Readiness) -> Sequence[str]:
    """List what the campaign lacks. Empty: it can be started."""
    found = []
    if not ready.script.strip():
        found.append("a script")
    if names := unknown_names(ready.script, ready.custom_fields):
        listed = ", ".join(f"{{{name}}}" for name in names)
        found.append(f"values for {listed}, which the script names and no contacts file has a column for")
    if ready.unfinished_uploads:
        listed = ", ".join(str(upload) for upload in ready.unfinished_uploads)
        found.append(f"the rest of upload {listed}, whose import hasn't come to its end")
    if not ready.contacts:
        found.append("contacts")
    elif not ready.writable:
        found.append("contacts who haven't opted out")
    if ready.assigning is not Assigning.OPEN and not ready.texters:
        found.append("texters")
    elif ready.assigning is Assigning.FIXED and ready.contacts and not ready.assigned:
        found.append("contacts that are assigned to a texter")
    return found


def readiness(session: Session, campaign: Campaign) -> Readiness:
    """Read the facts."""
    mine = Contact.campaign_id == campaign.id
    writable = exists().where(mine, Contact.campaign_id == Campaign.id, ~opted_out)
    unfinished = select(Upload.id).where(Upload.campaign_id == campaign.id, Upload.summary.is_(None))
    return Readiness(
        script=campaign.script,
        custom_fields=custom_field_names(session, campaign.id),
        contacts=count_contacts(session, campaign.id),
        writable=bool(session.scalar(select(writable))),
        unfinished_uploads=session.scalars(unfinished.order_by(Upload.id)).all(),
        assigning=Assigning(campaign.assigning),
        texters=session.scalar(select(func.count()).where(Assignment.campaign_id == campaign.id)) or 0,
        assigned=bool(session.scalar(select(exists().where(mine, Contact.assignment_id.is_not(None))))),
    )
