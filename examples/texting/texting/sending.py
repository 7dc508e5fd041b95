"""Write messages to contacts that have none, and send each message once through the carrier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from spoke_jobs.ledger.engine import READ_ONLY
from texting.assigning import opted_out, written
from texting.carrier_client import CarrierRefusedError
from texting.database import lock_campaign
from texting.models import Assigning, Assignment, Campaign, Contact, Message, MessageState, OptOut, utc_now
from texting.script import filled
from texting.start_cache import note_written


class Sends(Protocol):
    """The carrier's interface that `deliver` needs."""

    def send(self, *, key: str, to: str, text: str) -> None:
        """See `texting.carrier_client.Carrier.send`."""


class NotATexterError(LookupError):
    """The campaign's contacts are assigned to other texters."""


def write_messages(session: Session, campaign_id: int, texter: str, limit: int) -> Sequence[Message]:
    """Write messages to a texter's contacts that have none. The caller commits.

    Assigned contacts come first. Then, unless the assignment is fixed, the first free contacts.

    :param limit: the maximum number of contacts.
    :raises NotATexterError: if the campaign's contacts are assigned, and none to this texter.
    """
    # Concurrent requests wait for each other here, so that they never write to the same contact.
    campaign = lock_campaign(session, campaign_id)
    assignment = session.scalars(
        select(Assignment).where(Assignment.campaign_id == campaign_id, Assignment.texter == texter)
    ).one_or_none()
    if assignment is None and campaign.assigning != Assigning.OPEN:
        raise NotATexterError(f"{texter!r} is no texter of campaign {campaign_id}: assign its contacts again")
    writable = (
        select(Contact)
        .where(
            Contact.campaign_id == campaign_id,
            ~exists().where(OptOut.organization_id == campaign.organization_id, OptOut.cell == Contact.cell),
        )
        .order_by(Contact.id)
    )
    own: Sequence[Contact] = []
    if assignment is not None:
        mine = writable.where(Contact.assignment_id == assignment.id, ~written)
        own = session.scalars(mine.limit(limit)).all()
    taken: Sequence[Contact] = []
    if room := min(limit - len(own), _may_take(session, campaign, assignment, limit)):
        taken = session.scalars(writable.where(Contact.assignment_id.is_(None)).limit(room)).all()
    if not own and not taken:
        return []
    if assignment is None:
        assignment = Assignment(campaign_id=campaign_id, texter=texter)
        session.add(assignment)
        session.flush()
    for contact in taken:
        contact.assignment_id = assignment.id
    messages = [Message(contact_id=contact.id, text=filled(campaign.script, contact)) for contact in (*own, *taken)]
    session.add_all(messages)
    note_written(session, campaign_id, texter, own=len(own), taken=len(taken))
    session.flush()
    return messages


def _may_take(session: Session, campaign: Campaign, assignment: Assignment | None, limit: int) -> int:
    """Return how many free contacts the texter may take, up to the limit."""
    if campaign.assigning == Assigning.FIXED:
        return 0
    if assignment is None or assignment.max_contacts is None:
        return limit
    held = session.scalar(select(func.count()).where(Contact.assignment_id == assignment.id)) or 0
    return max(0, assignment.max_contacts - held)


def deliver(message_id: int, sessions: sessionmaker[Session], carrier: Sends) -> None:
    """Send a message unless it was sent, and record the result.

    If the process dies after the carrier's answer and before the record, the message stays queued. It is sent again
    with the same key, and the carrier drops the repeated message. No transaction is open during the request: the
    carrier may be slow, and on SQLite an open transaction blocks all other writers.

    :raises LookupError: if there is no such message.
    :raises httpx.HTTPError: if the carrier cannot be reached. The message stays queued.
    """
    with sessions() as session:
        session.connection(execution_options={READ_ONLY: True})
        found = session.execute(
            select(Message, Contact.cell, opted_out)
            .join(Contact, Contact.id == Message.contact_id)
            .join(Campaign, Campaign.id == Contact.campaign_id)
            .where(Message.id == message_id)
        ).one_or_none()
    if found is None:
        raise LookupError(f"there is no message {message_id}")
    message, cell, held = found
    if message.state != MessageState.QUEUED:
        return
    if held:
        _record(sessions, message_id, state=MessageState.HELD)
        return
    try:
        carrier.send(key=str(message.key), to=cell, text=message.text)
    except CarrierRefusedError as error:
        _record(sessions, message_id, state=MessageState.REFUSED, error=str(error))
    else:
        _record(sessions, message_id, state=MessageState.SENT, sent_at=utc_now())


def _record(sessions: sessionmaker[Session], message_id: int, **values: object) -> None:
    with sessions.begin() as session:
        session.execute(
            update(Message).where(Message.id == message_id, Message.state == MessageState.QUEUED).values(values)
        )
