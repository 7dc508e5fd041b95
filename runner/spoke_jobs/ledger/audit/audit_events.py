"""The audit table `job_event`: who cancelled, retried, deleted, paused, limited or scheduled what, and when.

Each event is written in the transaction of its change, so there is one exactly if the change happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, desc, func, insert, select

from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.sql.filters import matching
from spoke_jobs.ledger.tables import job_event, job_request

RETENTION_SECONDS = 365 * 86_400.0
"""How long events are kept."""
DETAIL_LIMIT = 500
LOOKED_THROUGH = 20_000
"""Among how many events those that a filter selects are looked for, for one page. Few filters have an index."""
LOOKED_THROUGH_FOR_SOME = 5_000
"""The same for organizations: the job of each event is looked up."""
_LOOKED_THROUGH_FOR_LAST = 1_000
"""Among how many of the newest events the last one of some actions is looked for."""


class Action(StrEnum):
    """What somebody did."""

    CANCEL = "cancel"
    RETRY = "retry"
    RUN_NOW = "run now"
    SET_PRIORITY = "set priority"
    SUSPEND_JOB = "suspend job"
    """The detail is the reason that was given."""
    RESUME_JOB = "resume job"
    PRUNE = "prune"
    CLOSE_BATCH = "close batch"
    CANCEL_BATCH = "cancel batch"
    """Its jobs are cancelled, too, each with an event of its own."""
    RETRY_TASK = "retry task"
    PAUSE = "pause"
    RESUME = "resume"
    SET_LIMIT = "set limit"
    RESET_LIMIT = "reset limit"
    ADD_SCHEDULE = "add schedule"
    CHANGE_SCHEDULE = "change schedule"
    REMOVE_SCHEDULE = "remove schedule"
    PAUSE_SCHEDULE = "pause schedule"
    RESUME_SCHEDULE = "resume schedule"
    RUN_SCHEDULE = "run schedule"
    BACKFILL_SCHEDULE = "backfill schedule"
    MUTE = "mute"
    UNMUTE = "unmute"
    FAIL_SCHEDULE = "fail schedule"
    """The job of an occurrence could not be made. Recorded once for each error, by the process that dispatches."""


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``job_event``."""

    id: int
    at: datetime
    actor: str
    """Who did it; empty if unknown."""
    action: str
    """An :class:`Action`, or one of another release."""
    job_id: int | None
    """The job may be deleted since."""
    job_type: str
    detail: str


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to select. None: any."""

    job_id: int | None = None
    action: str | None = None
    actor: str | None = None
    """A name, or a pattern in which ``*`` stands for any characters: ``ada@*``."""
    job_type: str | None = None
    """A name or a pattern."""
    since: datetime | None = None
    """The earliest time of the event."""
    until: datetime | None = None
    """The time before which it happened."""
    before: int | None = None
    """Only events with lower ids."""
    after: int | None = None
    """Only events with higher ids."""
    organizations: frozenset[int] | None = None
    """Only events of jobs that exist and are of these organizations."""


class EventPage(NamedTuple):
    """Events of one page, newest first."""

    events: list[Event]
    more: bool
    """Whether there are more among the events that were looked through."""
    looked_down_to: int | None
    """The lowest id of the events that were looked through, if there are older ones."""


ANY_EVENT = EventFilter()
_COLUMNS = [job_event.c[name] for name in Event.__slots__]


def record(
    connection: Connection,
    action: Action,
    actor: str,
    *,
    job_id: int | None = None,
    job_type: str = "",
    detail: str = "",
) -> None:
    """Write an event in the connection's transaction."""
    values = {
        "actor": actor,
        "action": action.value,
        "job_id": job_id,
        "job_type": job_type,
        "detail": detail[:DETAIL_LIMIT],
    }
    connection.execute(insert(job_event).values(at=clock_now(), **values))


def events(connection: Connection, limit: int | None = None, which: EventFilter = ANY_EVENT) -> list[Event]:
    """List the newest events that pass the filter, newest first."""
    statement = select(*_COLUMNS).where(*_conditions(which)).order_by(desc(job_event.c.id)).limit(limit)
    return [Event(*row) for row in connection.execute(statement)]


def last_of(connection: Connection, actions: Collection[Action]) -> datetime | None:
    """Return when one of these was done last; None if it is not among the newest events, or never."""
    events_of_all = select(job_event.c.at, job_event.c.action).order_by(desc(job_event.c.id))
    newest = events_of_all.limit(_LOOKED_THROUGH_FOR_LAST).subquery()
    found: datetime | None = connection.scalar(select(func.max(newest.c.at)).where(newest.c.action.in_(actions)))
    return found


def event_page(connection: Connection, which: EventFilter, limit: int) -> EventPage:
    """Read the newest events that pass the filter, of a bounded number of them. Those of one job have an index."""
    last: int | None = None
    if which.job_id is None and replace(which, before=None) != ANY_EVENT:
        most = LOOKED_THROUGH if which.organizations is None else LOOKED_THROUGH_FOR_SOME
        after = select(job_event.c.id).order_by(desc(job_event.c.id)).offset(most).limit(1)
        last = connection.scalar(after if which.before is None else after.where(job_event.c.id < which.before))
    found = events(connection, limit + 1, which if last is None else replace(which, after=last))
    return EventPage(found[:limit], len(found) > limit, None if last is None else last + 1)


def _conditions(which: EventFilter) -> Iterator[ColumnElement[bool]]:
    columns = job_event.c
    if which.job_id is not None:
        yield columns.job_id == which.job_id
    if which.action is not None:
        yield columns.action == which.action
    if which.actor is not None:
        yield matching(columns.actor, which.actor)
    if which.job_type is not None:
        yield matching(columns.job_type, which.job_type)
    if which.since is not None:
        yield columns.at >= which.since
    if which.until is not None:
        yield columns.at < which.until
    if which.before is not None:
        yield columns.id < which.before
    if which.after is not None:
        yield columns.id > which.after
    if which.organizations is not None:
        # No join, for which PostgreSQL might read all jobs of the organizations: one look for each event.
        organization = select(job_request.c.organization_id).where(job_request.c.id == columns.job_id)
        yield organization.scalar_subquery().in_(sorted(which.organizations))


def prune_events(connection: Connection) -> None:
    """Delete the events whose retention is over."""
    connection.execute(delete(job_event).where(job_event.c.at < clock_after(-RETENTION_SECONDS)))
