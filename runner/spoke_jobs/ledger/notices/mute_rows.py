"""The table ``notice_mute``: about which failures nobody wants notices. The caller commits."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.notices.notice_values import Mute
from spoke_jobs.ledger.tables import notice_mute

_COLUMNS = [notice_mute.c[name] for name in Mute.__slots__]
_KEPT_SECONDS = 30 * 86_400.0
"""How long a mute is kept after its end."""


def read_mutes(connection: Connection) -> list[Mute]:
    """Read the mutes, also those that have ended lately, by id."""
    return [Mute(*row) for row in connection.execute(select(*_COLUMNS).order_by(notice_mute.c.id))]


def add_mute(
    connection: Connection,
    *,
    job_type: str | None,
    cause: str | None,
    fingerprint: str | None,
    until: datetime,
    reason: str,
    by: str,
) -> Mute:
    """Mute the groups that match all of what is given. Record who did it."""
    values = {"job_type": job_type, "cause": cause, "fingerprint": fingerprint, "until": until, "reason": reason}
    new = insert(notice_mute).values(muted_by=by, muted_at=clock_now(), **values)
    mute_id = connection.execute(new.returning(notice_mute.c.id)).scalar_one()
    row = connection.execute(select(*_COLUMNS).where(notice_mute.c.id == mute_id)).one()
    mute = Mute(*row)
    end = f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    audit_events.record(
        connection, Action.MUTE, by, job_type=job_type or "", detail=f"{mute.about()} until {end}: {reason}"
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
