"""Messages: written for contacts that have none, and sent through the carrier, each once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session, sessionmaker

from spoke_jobs.ledger.engine import READ_ONLY
from texting.carrier_client import CarrierRefusedError
from texting.models import Assignment, Campaign, Contact, Message, MessageState, OptOut, utc_now

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Sends(Protocol):
    """What `deliver` needs of a carrier."""

    def send(self, *, key: str, to: str, text: str) -> None:
        """As `texting.carrier_client.Carrier.send`."""


def write_messages(session: Session, campaign_id: int, texter: str, limit: int) -> Sequence[Message]:
    """Assign the first contacts that nobody has written to, and write their messages; the caller commits.

    :param limit: how many contacts at most.
    """
    # Two requests at once wait for one another here, and so never write to the same contact.
    campaign = session.scalars(select(Campaign).where(Campaign.id == campaign_id).with_for_update()).one()
    contacts = session.scalars(
        select(Contact)
        .where(
            Contact.campaign_id == campaign_id,
            Contact.assignment_id.is_(None),
            ~exists().where(OptOut.organization_id == campaign.organization_id, OptOut.cell == Contact.cell),
        )
        .order_by(Contact.id)
        .limit(limit)
    ).all()
    if not contacts:
        return []
    assignment = Assignment(campaign_id=campaign_id, texter=texter)
    session.add(assignment)
    session.flush()
    for contact in contacts:
        contact.assignment_id = assignment.id
    messages = [Message(contact_id=contact.id, text=filled(campaign.script, contact)) for contact in contacts]
    session.add_all(messages)
    session.flush()
    return messages


def filled(script: str, contact: Contact) -> str:
    """The script for one contact. What it has no value for is left empty: no reader should see braces."""
    values = {**contact.custom_fields, "firstName": contact.first_name, "lastName": contact.last_name}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], ""), script)


def deliver(message_id: int, sessions: sessionmaker[Session], carrier: Sends) -> None:
    """Send a message that hasn't been, and record it.

    A process that dies between the carrier's answer and the record leaves the message queued, and whoever comes next
    sends it again under the same key, of which the carrier takes one. No transaction is open while the carrier is
    asked: it may take its time, and on SQLite everybody else would wait as well.

    :raises LookupError: if there is no such message.
    :raises httpx.HTTPError: if the carrier can't be reached; the message stays queued.
    """
    opted_out = exists().where(OptOut.organization_id == Campaign.organization_id, OptOut.cell == Contact.cell)
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
