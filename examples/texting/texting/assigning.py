"""Divide a campaign's contacts among its texters, in the database. `texting.dividing` decides who gets which.

All code that changes a contact's texter locks the campaign's row first: this module, and sending. A contact therefore
never gets two texters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from texting.database import lock_campaign
from texting.dividing import Division, Move, Share, Unwritten, divide
from texting.models import Assigning, Assignment, Campaign, Contact, Message, OptOut

BATCH_ROWS = 2_000
"""Contacts per transaction. On SQLite a transaction blocks all other writers, including the job's heartbeat."""
_MOST = 1_000_000_000

written = exists().where(Message.contact_id == Contact.id)
"""Whether somebody has written to a contact."""
opted_out = exists().where(OptOut.organization_id == Campaign.organization_id, OptOut.cell == Contact.cell)
"""Whether a contact, joined with its campaign, has opted out."""


class TexterShare(BaseModel):
    """A texter's share. The numbers are totals, and include contacts already written to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texter: str = Field(min_length=1, max_length=200, pattern=r"\S")
    wanted: int | None = Field(None, ge=0, le=_MOST)
    """Number of contacts. None: an equal part of the rest. Not for dynamic assignment."""
    maximum: int | None = Field(None, ge=0, le=_MOST)
    """Maximum number of contacts. None: no limit."""


class Request(BaseModel):
    """The texters of a campaign's contacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dynamic: bool = False
    """Texters take contacts when they send, up to their maximum, instead of being assigned contacts now."""
    texters: tuple[TexterShare, ...] = Field(max_length=1_000)
    """With too few contacts, earlier texters come first. Unlisted texters keep only contacts already written to."""

    @field_validator("texters")
    @classmethod
    def _each_once(cls, texters: Sequence[TexterShare]) -> Sequence[TexterShare]:
        names = [share.texter for share in texters]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed more than once: {', '.join(repeated)}")
        return texters

    @model_validator(mode="after")
    def _wanted_is_for_fixed(self) -> Request:
        if self.dynamic and (wanting := [share.texter for share in self.texters if share.wanted is not None]):
            raise ValueError(
                f"{', '.join(wanting)}: with dynamic assignment texters take contacts when they ask; give a maximum "
                "instead of how many are wanted"
            )
        return self


def begin(session: Session, campaign_id: int, request: Request) -> None:
    """Record the request. From its commit on, only its texters take contacts. The caller commits.

    :raises LookupError: if there is no such campaign.
    """
    campaign = lock_campaign(session, campaign_id)
    campaign.assigning = Assigning.DYNAMIC if request.dynamic else Assigning.FIXED
    assignments = _assignments(session, campaign_id)
    for share in request.texters:
        if share.texter not in assignments:
            session.add(Assignment(campaign_id=campaign_id, texter=share.texter, max_contacts=share.maximum))
    maximum = {share.texter: share.maximum for share in request.texters}
    for texter, assignment in assignments.items():
        assignment.max_contacts = maximum.get(texter, 0)
    session.flush()


def divide_now(session: Session, campaign_id: int, request: Request) -> Division:
    """Compute the remaining moves. They stay valid until the session's transaction ends."""
    lock_campaign(session, campaign_id)
    assignments = _assignments(session, campaign_id)
    counted = (
        select(Contact.assignment_id, func.count())
        .where(Contact.campaign_id == campaign_id, Contact.assignment_id.is_not(None), written)
        .group_by(Contact.assignment_id)
    )
    done = dict(session.execute(counted).all())
    shares = [
        Share(key, share.wanted, share.maximum, done.get(key, 0))
        for share in request.texters
        for key in (assignments[share.texter].id,)
    ]
    rows = session.execute(
        select(Contact.id, Contact.assignment_id, opted_out)
        .join(Campaign, Campaign.id == Contact.campaign_id)
        .where(Contact.campaign_id == campaign_id, ~written)
        .order_by(Contact.id)
    )
    return divide(shares, [Unwritten(*row) for row in rows], dynamic=request.dynamic)


def move(session: Session, campaign_id: int, moves: Iterable[Move]) -> None:
    """Apply some of the moves. Contacts that were written to in the meantime stay. The caller commits."""
    lock_campaign(session, campaign_id)
    for texter, group in groupby(moves, key=attrgetter("texter")):
        keys = [each.contact for each in group]
        session.execute(
            update(Contact)
            .where(Contact.id.in_(keys), Contact.campaign_id == campaign_id, ~written)
            .values(assignment_id=texter)
            .execution_options(synchronize_session=False)
        )


def finish(session: Session, campaign_id: int, request: Request) -> None:
    """Delete texters who are no longer listed and have no contacts. The caller commits."""
    holds = exists().where(Contact.assignment_id == Assignment.id)
    listed = [share.texter for share in request.texters]
    session.execute(
        delete(Assignment)
        .where(Assignment.campaign_id == campaign_id, Assignment.texter.not_in(listed), ~holds)
        .execution_options(synchronize_session=False)
    )


def _assignments(session: Session, campaign_id: int) -> dict[str, Assignment]:
    found = session.scalars(select(Assignment).where(Assignment.campaign_id == campaign_id))
    return {assignment.texter: assignment for assignment in found}
