"""The jobs that hold the locks of queues, for `why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from spoke_jobs.ledger.reading.usage_queries import usual_seconds
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import AttemptState

_USUAL = 10
"""Of how many jobs that hold a lock the usual time is read: of those for which the most jobs wait."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The job that holds a queue's lock."""

    job_id: int
    job_type: str
    worker: str
    since: datetime
    lease_expires_at: datetime | None
    """None if no attempt of it runs: other code has written the lock."""
    percent: int
    """The progress that it has reported."""
    progressed_at: datetime
    """When it reported progress last, or started."""
    queue_name: str = ""
    usual_seconds: float | None = None
    """How long an attempt of its type usually takes; None if that is not known."""


_HOLDERS = (
    select(
        queue_lock.c.job_id,
        job_request.c.job_type,
        func.coalesce(job_attempt.c.worker, ""),
        queue_lock.c.acquired_at,
        job_attempt.c.lease_expires_at,
        job_request.c.status,
        job_request.c.updated_at,
        queue_lock.c.queue_name,
    )
    .join(job_request, job_request.c.id == queue_lock.c.job_id)
    .outerjoin(
        job_attempt,
        and_(job_attempt.c.token == queue_lock.c.token, job_attempt.c.state == constant(AttemptState.RUNNING)),
    )
)


def holder_of(connection: Connection, queue_name: str) -> Holder | None:
    """Read the job that holds a queue's lock; None if it is free."""
    row = connection.execute(_HOLDERS.where(queue_lock.c.queue_name == queue_name)).one_or_none()
    return _with_usual(connection, [Holder(*row)])[0] if row is not None else None


def holders_by_id(connection: Connection, numbers: Mapping[int, int]) -> dict[int, Holder]:
    """Read the jobs that hold locks.

    :param numbers: how many jobs wait for each of them, by id.
    """
    rows = connection.execute(_HOLDERS.where(queue_lock.c.job_id.in_(numbers))) if numbers else ()
    found = {row.job_id: Holder(*row) for row in rows}
    first = sorted(found.values(), key=lambda holder: -numbers[holder.job_id])[:_USUAL]
    return found | {holder.job_id: holder for holder in _with_usual(connection, first)}


def _with_usual(connection: Connection, holders: Sequence[Holder]) -> list[Holder]:
    usual = usual_seconds(connection, {holder.job_type for holder in holders})
    return [replace(holder, usual_seconds=usual.get(holder.job_type)) for holder in holders]
