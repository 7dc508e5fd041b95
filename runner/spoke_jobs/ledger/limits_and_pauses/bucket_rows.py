"""The table ``job_limit_bucket``: the buckets of rates of each queue, type or organization.

Claims read and change the buckets of a limit while they have its row in ``job_limit`` locked, so these rows need no
lock of their own. A bucket that is full has no row.

``job_limit.full_at`` of such a limit is when its last bucket is full. Workers of the release before this table know
only that one: they start no job until the emptiest bucket has a token. If it is later than all buckets, such workers
have taken tokens, and nobody knows of which queues. It then is a bucket with the empty name, which holds for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, select, update

from spoke_jobs.ledger.sql.expressions import upsert
from spoke_jobs.ledger.tables import job_limit, job_limit_bucket
from spoke_jobs.limits.admission import Bucket
from spoke_jobs.limits.job_limit import JobLimit

MOST_EMPTY = 10_000
"""How many buckets of a limit without a token are told apart: those that are full last. While there are so many, the
scope's other jobs do not start, either. So a search has a bounded number of names to leave out."""
_DELETED_AT_LEAST = 20

Times = Mapping[int, datetime | None]
"""``job_limit.full_at``, by the limit's id."""

_ROW = job_limit_bucket.c
_OF_LIMIT = _ROW.limit_id == bindparam("of_limit")
_LAST = select(func.max(_ROW.full_at)).where(_OF_LIMIT)
_NAMED = select(_ROW.name, _ROW.full_at).where(_OF_LIMIT, _ROW.name.in_(bindparam("names", expanding=True)))
_EMPTY = (
    select(_ROW.name, _ROW.full_at)
    .where(_OF_LIMIT, _ROW.full_at > bindparam("after"))
    .order_by(_ROW.full_at.desc())
    .limit(bindparam("most"))
)
_SPEND = update(job_limit).where(job_limit.c.id == bindparam("of_limit")).values(full_at=bindparam("full"))
_FORGET_FULL = delete(job_limit_bucket).where(
    _OF_LIMIT,
    _ROW.name.in_(select(_ROW.name).where(_OF_LIMIT, _ROW.full_at <= bindparam("now")).limit(bindparam("most"))),
)
_FORGET = delete(job_limit_bucket).where(_OF_LIMIT)


def empty_buckets(
    connection: Connection, limits: Iterable[JobLimit], last: Times, now: datetime
) -> dict[Bucket, datetime | None]:
    """Read the buckets that have no token, and those that hold for all names."""
    found: dict[Bucket, datetime | None] = {}
    for limit in limits:
        rate, full_at = limit.bounds.rate, last.get(limit.id)
        if rate is None or full_at is None:
            continue
        one_left = timedelta(microseconds=(rate.burst - 1) * rate.interval)
        if full_at - now <= one_left:
            continue  # each has a token
        after = now + one_left
        rows = connection.execute(_EMPTY, {"of_limit": limit.id, "after": after, "most": MOST_EMPTY}).all()
        found |= {(limit.id, row.name): row.full_at for row in rows}
        common = _common(connection, limit, full_at, found.get((limit.id, "")))
        if len(rows) == MOST_EMPTY:
            common = max(common or rows[-1].full_at, rows[-1].full_at)
        found[limit.id, ""] = common
    return found


def named_buckets(
    connection: Connection, limits: Iterable[JobLimit], last: Times, names: Mapping[int, Collection[str]]
) -> dict[Bucket, datetime | None]:
    """Read the buckets of these names, by the limits' ids, and those that hold for all names."""
    found: dict[Bucket, datetime | None] = {}
    for limit in limits:
        wanted = {"", *names[limit.id]}
        own: dict[Bucket, datetime | None] = {(limit.id, name): None for name in wanted}
        for row in connection.execute(_NAMED, {"of_limit": limit.id, "names": sorted(wanted)}):
            own[limit.id, row.name] = row.full_at
        own[limit.id, ""] = _common(connection, limit, last.get(limit.id), own[limit.id, ""])
        found |= own
    return found


def _common(
    connection: Connection, limit: JobLimit, full_at: datetime | None, known: datetime | None
) -> datetime | None:
    """Return the bucket that holds for all names."""
    if full_at is None:
        return known
    last = connection.scalar(_LAST, {"of_limit": limit.id})
    return full_at if last is None or full_at > last else known


def spend(
    connection: Connection,
    limits: Mapping[int, JobLimit],
    taken: Mapping[Bucket, datetime],
    read: Mapping[Bucket, datetime | None],
    now: datetime,
) -> None:
    """Keep the tokens that were taken, also of limits with one bucket. Delete some buckets that are full.

    :param limits: those of each queue, for example, by id.
    :param read: what :func:`named_buckets` returned.
    """
    whole = {number: full_at for (number, name), full_at in taken.items() if not name}
    rows: dict[Bucket, datetime] = {}
    for bucket, full_at in taken.items():
        number = bucket[0]
        if number not in limits:
            continue
        rows[bucket] = full_at
        common = read.get((number, ""))
        if common is not None and common > now:
            rows[number, ""] = common
    several = {number for number, _ in rows}
    if rows:
        for number in several:
            most = max(_DELETED_AT_LEAST, 2 * len(rows))
            connection.execute(_FORGET_FULL, {"of_limit": number, "now": now, "most": most})
        values = [{"limit_id": number, "name": name, "full_at": at} for (number, name), at in sorted(rows.items())]
        new = upsert(connection, job_limit_bucket)
        put = new.on_conflict_do_update(index_elements=["limit_id", "name"], set_={"full_at": new.excluded.full_at})
        connection.execute(put, values)
        # Not the later one of this and its time before: after a raised rate that would look like an earlier worker's.
        whole |= {number: connection.scalar(_LAST, {"of_limit": number}) for number in several}
    connection.execute(_SPEND, [{"of_limit": number, "full": full_at} for number, full_at in sorted(whole.items())])


def forget(connection: Connection, limit: JobLimit) -> None:
    """Delete the buckets of a limit whose rate was removed."""
    connection.execute(_FORGET, {"of_limit": limit.id})
