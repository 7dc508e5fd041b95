"""One pass of a channel: count the new failures, make the notices that are due, and send what waits.

Each transaction begins with the channel's lease. A notice is stored in the transaction that counts its failures, and
deleted after its receiver has confirmed it. So a process that dies loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine

from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.notices import mute_rows, notice_rows
from spoke_jobs.ledger.notices.notice_values import Place, StoredNotice
from spoke_jobs.notices.notice_decisions import MOST_GROUPS, NoticeKind, Rhythm, counted, decide, muted
from spoke_jobs.notices.notice_delivery import Delivery, Sender
from spoke_jobs.notices.notice_document import NoticeDocument
from spoke_jobs.shared.backoff import Backoff

logger = logging.getLogger(__name__)

BATCH = 2_000
"""How many failures one transaction counts."""
PART = 500
"""Of how many groups the names are in memory at a time, of up to 24 kB each."""
BACKOFF = Backoff(base=5.0, maximum=600.0)


@dataclass(frozen=True, slots=True)
class NoticeOptions:
    """What people choose."""

    rhythm: Rhythm = field(default_factory=Rhythm)
    with_messages: bool = False
    """Whether notices have the messages of failed jobs."""
    source: str = ""
    """The name of this system."""
    dashboard: str = ""
    """The dashboard's address; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The process that holds leases."""

    token: UUID
    name: str


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass did."""

    held: bool
    """Whether this process had the channel's lease. Otherwise the pass did nothing."""
    sent: int = 0
    waiting: int = 0
    """How many notices are still to be sent."""
    problem: str = ""
    """Why the last one could not be sent."""


def take_pass(
    engine: Engine,
    sender: Sender,
    identity: Identity,
    options: NoticeOptions,
    stopped: Callable[[], bool] = lambda: False,
) -> PassResult:
    """Make one pass.

    :param stopped: whether the process is to end. What is left then, the next pass does.
    :raises sqlalchemy.exc.DBAPIError: if the database cannot be used. What was committed stays.
    """
    channel = sender.channel.value
    began: datetime | None = None
    counted_until: datetime | None = None
    complete = False
    while not complete:
        if stopped():
            return PassResult(held=True)
        with engine.begin() as connection:
            place = notice_rows.hold(connection, channel, identity.token, identity.name)
            if place is None:
                return PassResult(held=False)
            began = began or place.now
            counted_until = _count(connection, channel, place, options.rhythm, counted_until)
            complete = counted_until is None
            if complete:
                # What is committed late during the pass may be passed over: the next look reaches back from its begin.
                notice_rows.looked(connection, channel, replace(place, now=began))
                _make_notices(connection, channel, place, options)
    sent, problem = 0, ""
    while not problem and not stopped():
        with engine.begin() as connection:
            if notice_rows.hold(connection, channel, identity.token, identity.name) is None:
                return PassResult(held=False, sent=sent)
            notice = notice_rows.due(connection, channel)
        if notice is None:
            break
        delivery = sender.send(notice.id, notice.document)
        with engine.begin() as connection:
            _record(connection, notice, delivery)
        sent += delivery.delivered
        problem = delivery.problem  # leave the other notices for the next pass: they would most likely fail, too
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        return PassResult(True, sent, notice_rows.unconfirmed(connection, channel), problem)


def _count(
    connection: Connection, channel: str, place: Place, rhythm: Rhythm, after: datetime | None
) -> datetime | None:
    """Count failures. Return until when; None if there are no more.

    :param after: until when this pass has counted them; None at its begin.
    """
    failures = notice_rows.unseen(connection, channel, place, BATCH, after)
    known = notice_rows.groups_of(connection, channel, {each.name for each in failures})
    notice_rows.write_groups(connection, channel, list(counted(known, failures, rhythm).values()))
    notice_rows.mark_seen(connection, channel, failures)
    return failures[-1].finished_at if len(failures) == BATCH else None


def _make_notices(connection: Connection, channel: str, place: Place, options: NoticeOptions) -> None:
    """Store the notices that are due."""
    notice_rows.forget_quiet(connection, channel, place.now - options.rhythm.quiet)
    for notice_id in notice_rows.drop_old(connection, channel):
        logger.error("dropped the notice %s for the %s: it could not be sent for 7 days", notice_id, channel)
    _forget_muted(connection, channel, place.now)
    notices = decide(
        notice_rows.unreported(connection, channel, MOST_GROUPS, known=False),
        notice_rows.unreported(connection, channel, MOST_GROUPS, known=True),
        place.now,
        place.digest_at,
        options.rhythm,
        notice_rows.unconfirmed(connection, channel),
    )
    documents = {}
    for notice in notices:
        ids = [group.job_id for group in notice.groups]
        messages = notice_rows.messages_of(connection, ids) if options.with_messages else None
        notice_id = uuid4()
        document = NoticeDocument.of(
            notice, notice_id, place.now, source=options.source, dashboard=options.dashboard, messages=messages
        )
        documents[notice_id] = document.model_dump(mode="json")
        notice_rows.reported(connection, channel, place.now, known=notice.kind is NoticeKind.DIGEST)
    digest = any(notice.kind is NoticeKind.DIGEST for notice in notices)
    notice_rows.add(connection, channel, documents, digest_at=place.now if digest else None)


def _forget_muted(connection: Connection, channel: str, now: datetime) -> None:
    """Forget the failures that are muted. The groups are read in parts: there may be more than fit into memory."""
    mutes = [mute for mute in mute_rows.read_mutes(connection) if now < mute.until]
    after = ""
    while mutes:
        names = notice_rows.unreported_names(connection, channel, after, PART)
        notice_rows.forget_failures(connection, channel, muted(names, mutes, now))
        if len(names) < PART:
            break
        after = max(names)


def _record(connection: Connection, notice: StoredNotice, delivery: Delivery) -> None:
    if delivery.delivered:
        notice_rows.confirmed(connection, notice.id)
    else:
        wait = max(BACKOFF.after(notice.tries + 1), delivery.retry_after_seconds)
        notice_rows.put_off(connection, notice.id, wait)


def release(engine: Engine, senders: Sequence[Sender], identity: Identity) -> None:
    """Give the leases back, so that another process goes on at once."""
    with engine.begin() as connection:
        for sender in senders:
            notice_rows.release(connection, sender.channel.value, identity.token)
