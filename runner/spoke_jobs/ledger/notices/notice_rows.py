"""The tables of notices: a channel's lease, the failures that it has counted, its groups, and what it is to send.

A channel is one receiver. Each function works in the caller's transaction. Those that write are for the process that
holds the channel's lease (:func:`hold`), whose row they keep locked until the transaction's end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.notices.notice_values import (
    FailedRun,
    FailureGroup,
    GroupName,
    Place,
    StoredNotice,
    UnreportedGroups,
)
from spoke_jobs.ledger.sql.expressions import constant, upsert
from spoke_jobs.ledger.tables import job_request, notice_channel, notice_group, notice_outbox, notice_seen
from spoke_jobs.model import JobState

LEASE_SECONDS = 60.0
"""For how long a process that has died keeps others from a channel."""
LATE_SECONDS = 900.0
"""How much later than it happened a failure may be committed, so that it is still found."""
DROP_SECONDS = 7 * 86_400.0
"""After this time without success, a notice is dropped."""
_TIES = timedelta(seconds=1)
"""How far a look reaches back to its own last part. Many jobs may have failed at the same time."""
_AT_ONCE = 2_000
"""How many groups one statement names: a database bounds its parameters."""
_NOTHING: Mapping[str, Any] = {"unreported": 0, "oldest_at": None}
"""The columns of a group without unreported failures."""
_TIMEOUTS = ("SET LOCAL statement_timeout = '30s'", "SET LOCAL idle_in_transaction_session_timeout = '20s'")
"""Of a process that is frozen, the server ends the transaction, which locks the channel's row."""


def hold(connection: Connection, channel: str, token: UUID, holder: str) -> Place | None:
    """Take or renew the lease of a channel, and lock its row. None if another process has it.

    The first call begins the channel: it does not report what failed before.

    :param token: identifies the process.
    :param holder: names it for people.
    """
    if connection.dialect.name == "postgresql":
        for statement in _TIMEOUTS:
            connection.execute(text(statement))
    columns = notice_channel.c
    if connection.scalar(select(columns.name).where(columns.name == channel)) is None:
        # An insert that finds a row waits for a transaction that changes it, although it does nothing then.
        new = upsert(connection, notice_channel).values(name=channel, started_at=clock_now(), looked_at=clock_now())
        connection.execute(new.on_conflict_do_nothing())
    free = or_(columns.token == token, columns.lease_until.is_(None), columns.lease_until < clock_now())
    place = select(clock_now(), columns.started_at, columns.looked_at, columns.digest_at)
    free_place = place.where(columns.name == channel, free).with_for_update(skip_locked=True)
    row = connection.execute(free_place).first()
    if row is None:
        return None
    _set(connection, channel, token=token, holder=holder, lease_until=clock_after(LEASE_SECONDS))
    return Place(*row)


def release(connection: Connection, channel: str, token: UUID) -> None:
    """Give the lease back, so that another process need not wait for its end."""
    mine = and_(notice_channel.c.name == channel, notice_channel.c.token == token)
    connection.execute(update(notice_channel).where(mine).values(lease_until=None, token=None, holder=""))


def holder_of(connection: Connection, channel: str) -> str:
    """Name the process that has the lease; empty if none has."""
    of = select(notice_channel.c.holder).where(notice_channel.c.name == channel)
    return connection.scalar(of) or ""


def unseen(
    connection: Connection, channel: str, place: Place, limit: int, after: datetime | None = None
) -> list[FailedRun]:
    """Read failed jobs that the channel has not counted, those that failed first. Cancelled jobs are left out.

    :param after: until when this look has counted them. Otherwise it would read them again for each part.
    """
    columns, seen = job_request.c, notice_seen.c
    since = _reaches_to(place, place.looked_at)
    if after is not None:
        since = max(since, after - _TIES)
    counted = exists().where(seen.channel == channel, seen.job_id == columns.id, seen.run == columns.run)
    statement = (
        select(columns.id, columns.run, columns.job_type, columns.cause, columns.fingerprint, columns.finished_at)
        .where(
            columns.state == constant(JobState.FAILED),
            columns.finished_at >= since,
            columns.cause != Cause.CANCELLED.value,
            not_(counted),
        )
        .order_by(columns.finished_at, columns.id)
        .limit(limit)
    )
    found = [FailedRun(row[0], row[1], GroupName(*row[2:5]), row[5]) for row in connection.execute(statement)]
    return [each for each in found if each.finished_at >= since]  # other code may have written texts that are no times


def mark_seen(connection: Connection, channel: str, failures: Collection[FailedRun]) -> None:
    """Record that the channel has counted these failures."""
    if failures:
        rows = [
            {"channel": channel, "job_id": each.job_id, "run": each.run, "finished_at": each.finished_at}
            for each in failures
        ]
        connection.execute(insert(notice_seen), rows)


def looked(connection: Connection, channel: str, place: Place) -> None:
    """Record a complete look that began at the place's time. Forget the failures that no later look reaches back to."""
    _set(connection, channel, looked_at=place.now)
    over = notice_seen.c.finished_at < _reaches_to(place, place.now)
    connection.execute(delete(notice_seen).where(notice_seen.c.channel == channel, over))


def _reaches_to(place: Place, looked_at: datetime) -> datetime:
    """Return the time from which the look after one at that time reads failures."""
    return max(place.started_at, looked_at - timedelta(seconds=LATE_SECONDS))


def groups_of(connection: Connection, channel: str, names: Iterable[GroupName]) -> dict[GroupName, FailureGroup]:
    """Read the groups that the channel knows, of those with the names."""
    keys = [name.key for name in names]
    if not keys:
        return {}
    return {group.name: group for group in _groups(connection, channel, notice_group.c.group_key.in_(keys))}


def unreported(connection: Connection, channel: str, most: int, *, known: bool) -> UnreportedGroups:
    """Read the largest groups with failures that no notice has reported, and count all of them.

    There may be any number, with long names: a job's role can write a failed job of a new group in each row.

    :param most: how many groups are read.
    :param known: read the groups about which a notice was made before; otherwise the others.
    """
    columns, which = notice_group.c, _unreported(channel, known=known)
    count = select(func.count(), func.sum(columns.unreported), func.min(columns.reported_at)).where(which)
    number, failures, reported_at = connection.execute(count).one()
    if not number:
        return UnreportedGroups()
    # The names are read in a second step, so that the database need not sort them.
    largest = select(columns.group_key).where(which).order_by(columns.unreported.desc(), columns.group_key).limit(most)
    groups = _groups(connection, channel, columns.group_key.in_(largest))
    return UnreportedGroups(tuple(groups), number, int(failures), reported_at)


def unreported_names(connection: Connection, channel: str, after: str, limit: int) -> dict[str, GroupName]:
    """Read the names of groups with failures that no notice has reported, by key, in its order.

    :param after: the key after which to begin; empty for all.
    """
    columns = notice_group.c
    statement = (
        select(columns.group_key, columns.job_type, columns.cause, columns.fingerprint)
        .where(columns.channel == channel, columns.unreported > 0, columns.group_key > after)
        .order_by(columns.group_key)
        .limit(limit)
    )
    return {row[0]: GroupName(*row[1:]) for row in connection.execute(statement)}


def forget_failures(connection: Connection, channel: str, keys: Sequence[str]) -> None:
    """Record that the unreported failures of these groups are not to be reported."""
    columns = notice_group.c
    for start in range(0, len(keys), _AT_ONCE):
        these = and_(columns.channel == channel, columns.group_key.in_(keys[start : start + _AT_ONCE]))
        connection.execute(update(notice_group).where(these).values(_NOTHING))


def reported(connection: Connection, channel: str, at: datetime, *, known: bool) -> None:
    """Record that a notice has reported, or counted, all failures that :func:`unreported` has counted."""
    which = _unreported(channel, known=known)
    connection.execute(update(notice_group).where(which).values(**_NOTHING, reported_at=at))


def _unreported(channel: str, *, known: bool) -> ColumnElement[bool]:
    columns = notice_group.c
    told = columns.reported_at.is_not(None) if known else columns.reported_at.is_(None)
    return and_(columns.channel == channel, columns.unreported > 0, told)


def _groups(connection: Connection, channel: str, condition: ColumnElement[bool]) -> list[FailureGroup]:
    columns = notice_group.c
    statement = select(
        columns.job_type, columns.cause, columns.fingerprint, columns.known_since, columns.newest_at, columns.job_id,
        columns.unreported, columns.oldest_at, columns.reported_at,
    ).where(columns.channel == channel, condition).order_by(columns.group_key)  # fmt: skip
    return [FailureGroup(GroupName(*row[:3]), *row[3:]) for row in connection.execute(statement)]


def write_groups(connection: Connection, channel: str, groups: Collection[FailureGroup]) -> None:
    """Write groups, in place of those with the same names."""
    rows = [
        group.name._asdict()
        | {
            "channel": channel,
            "group_key": group.name.key,
            "known_since": group.known_since,
            "newest_at": group.newest_at,
            "job_id": group.job_id,
            "unreported": group.unreported,
            "oldest_at": group.oldest_at,
            "reported_at": group.reported_at,
        }
        for group in groups
    ]
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        keys = notice_group.c.group_key.in_([row["group_key"] for row in part])
        connection.execute(delete(notice_group).where(notice_group.c.channel == channel, keys))
        connection.execute(insert(notice_group), part)


def forget_quiet(connection: Connection, channel: str, before: datetime) -> None:
    """Delete the reported groups whose last failure was before that time."""
    columns = notice_group.c
    quiet = and_(columns.channel == channel, columns.unreported == 0, columns.newest_at < before)
    connection.execute(delete(notice_group).where(quiet))


def messages_of(connection: Connection, job_ids: Collection[int]) -> dict[int, str]:
    """Read why jobs failed, by their ids."""
    if not job_ids:
        return {}
    wanted = job_request.c.id.in_(sorted(job_ids))
    statement = select(job_request.c.id, job_request.c.result_message).where(wanted)
    return {row.id: row.result_message for row in connection.execute(statement)}


def add(
    connection: Connection, channel: str, notices: Mapping[UUID, Mapping[str, Any]], *, digest_at: datetime | None
) -> None:
    """Store notices, by their ids.

    :param digest_at: when a digest among them was made; None if there is none.
    """
    for notice_id, document in notices.items():
        values = {"channel": channel, "document": dict(document), "created_at": clock_now(), "next_try_at": clock_now()}
        connection.execute(insert(notice_outbox).values(id=notice_id, **values))
    if digest_at is not None:
        _set(connection, channel, digest_at=digest_at)


def unconfirmed(connection: Connection, channel: str) -> int:
    """Count the notices that the channel has not sent."""
    here = notice_outbox.c.channel == channel
    return connection.scalar(select(func.count()).select_from(notice_outbox).where(here)) or 0


def due(connection: Connection, channel: str) -> StoredNotice | None:
    """Read the notice that is to be sent next; None if none is due."""
    columns = notice_outbox.c
    statement = (
        select(columns.id, columns.document, columns.created_at, columns.tries)
        .where(columns.channel == channel, columns.next_try_at <= clock_now())
        .order_by(columns.next_try_at, columns.created_at, columns.id)
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else StoredNotice(row.id, row.document or {}, row.created_at, row.tries)


def confirmed(connection: Connection, notice_id: UUID) -> None:
    """Delete a notice that its receiver has confirmed."""
    connection.execute(delete(notice_outbox).where(notice_outbox.c.id == notice_id))


def put_off(connection: Connection, notice_id: UUID, seconds: float) -> None:
    """Record that a notice could not be sent, and is to be sent again later."""
    values = {"tries": notice_outbox.c.tries + 1, "next_try_at": clock_after(seconds)}
    connection.execute(update(notice_outbox).where(notice_outbox.c.id == notice_id).values(values))


def drop_old(connection: Connection, channel: str) -> list[UUID]:
    """Delete the notices that could not be sent for too long. Return their ids."""
    old = and_(notice_outbox.c.channel == channel, notice_outbox.c.created_at < clock_after(-DROP_SECONDS))
    found = list(connection.scalars(select(notice_outbox.c.id).where(old)))
    if found:
        connection.execute(delete(notice_outbox).where(notice_outbox.c.id.in_(found)))
    return found


def _set(connection: Connection, channel: str, **values: Any) -> None:
    connection.execute(update(notice_channel).where(notice_channel.c.name == channel).values(values))
