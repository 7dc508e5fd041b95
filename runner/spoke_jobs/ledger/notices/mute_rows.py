"""The table ``notice_mute``: about which failures nobody wants notices. The caller commits."""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection, delete, desc, insert, select

from spoke_jobs.errors import InvalidMute
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_after, clock_now, read_clock
from spoke_jobs.ledger.notices.notice_values import Mute, NewMute
from spoke_jobs.ledger.tables import notice_mute

_COLUMNS = [notice_mute.c[name] for name in Mute.__slots__]
_KEPT_SECONDS = 30 * 86_400.0
"""How long a mute is kept after its end."""


def read_mutes(connection: Connection) -> list[Mute]:
    """Read the mutes, also those that have ended lately, by id."""
    return [Mute(*row) for row in connection.execute(select(*_COLUMNS).order_by(notice_mute.c.id))]


def current_mutes(connection: Connection, limit: int | None = None) -> list[Mute]:
    """Read the mutes that have not ended, by id; at most ``limit``, the newest."""
    newest = select(*_COLUMNS).where(notice_mute.c.until > clock_now()).order_by(desc(notice_mute.c.id)).limit(limit)
    return [Mute(*row) for row in connection.execute(newest)][::-1]


def add_mute(connection: Connection, new: NewMute, by: str) -> Mute:
    """Mute the groups that match all of what is given. Record who did it.

    :raises InvalidMute: if its end is over.
    """
    end = f"{new.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if new.until <= read_clock(connection):
        raise InvalidMute(f"the end is {end}, which is over: give a later time")
    values = {name: getattr(new, name) for name in NewMute.__slots__}
    inserted = insert(notice_mute).values(muted_by=by, muted_at=clock_now(), **values)
    mute_id = connection.execute(inserted.returning(notice_mute.c.id)).scalar_one()
    row = connection.execute(select(*_COLUMNS).where(notice_mute.c.id == mute_id)).one()
    mute = Mute(*row)
    audit_events.record(
        connection, Action.MUTE, by, job_type=new.job_type or "", detail=f"{mute.about()} until {end}: {new.reason}"
    )
    connection.execute(delete(notice_mute).where(notice_mute.c.until < clock_after(-_KEPT_SECONDS)))
    return mute


def end_mute(connection: Connection, mute_id: int, by: str) -> Mute | None:
    """End a mute. Return what it was; None if there is none with the id, or it has ended."""
    columns = notice_mute.c
    row = connection.execute(
        select(*_COLUMNS).where(columns.id == mute_id, columns.until > clock_now()).with_for_update()
    ).first()
    if row is None:
        return None
    mute = Mute(*row)
    connection.execute(delete(notice_mute).where(columns.id == mute_id))
    audit_events.record(connection, Action.UNMUTE, by, job_type=mute.job_type or "", detail=mute.about())
    return mute
