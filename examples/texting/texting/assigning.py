"""Dividing a campaign's contacts among its texters, in the database; `texting.dividing` says who gets which.

All that changes who holds a contact locks the campaign's row first: this, and the sending, which takes contacts and
writes to them. So nobody takes a contact that is on its way to somebody else.
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
"""Contacts to a transaction. On SQLite it keeps all other writers out, the job's own heartbeat among them."""
_MOST = 1_000_000_000

written = exists().where(Message.contact_id == Contact.id)
"""Whether somebody has written to a contact."""
opted_out = exists().where(OptOut.organization_id == Campaign.organization_id, OptOut.cell == Contact.cell)
"""Whether a contact, joined with its campaign, has opted out."""


class TexterShare(BaseModel):
    """What a texter is to have. The numbers are totals: they count contacts already written to as well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texter: str = Field(min_length=1, max_length=200, pattern=r"\S")
    wanted: int | None = Field(None, ge=0, le=_MOST)
    """How many contacts; None for an equal part of what the others leave. Not for dynamic assignment."""
    maximum: int | None = Field(None, ge=0, le=_MOST)
    """How many contacts at most; None for any number."""


class Request(BaseModel):
    """Who is to write to a campaign's contacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dynamic: bool = False
    """Texters take contacts when they ask, up to their maximum, instead of having them assigned now."""
    texters: tuple[TexterShare, ...] = Field(max_length=1_000)
    """If contacts are short, the first ones come first. Who isn't listed keeps only whom they have written to."""

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
    """Make the request known, so that from here on nobody takes a contact who no longer may; the caller commits.

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
    """What is left to be done; it stays so until the session's transaction ends."""
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
    """Do some of it; the caller commits. Contacts that have been written to since they were divided stay."""
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
    """Forget the texters who are no longer listed and hold nothing; the caller commits."""
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
