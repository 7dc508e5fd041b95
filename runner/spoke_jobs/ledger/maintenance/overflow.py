"""Move jobs that have waited for a free worker for too long to pods. The caller commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, case, desc, func, select, update

from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.contract.limit_scopes import DIMENSIONS, ScopeKind, Subject
from spoke_jobs.ledger.claims.eligibility import in_sql, of_overflow
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import counted_column, increased, option_seconds
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.limits.admission import Admission

_CLAIMS, _LOCKS = 20_000, 20_000
"""How many of the newest claims, and how many locks of queues, a look reads at most."""


class Candidate(NamedTuple):
    """A job of the lane `worker` that a free worker would have started in time, by its row."""

    id: int
    subject: Subject
    queue: str
    """The queue that it locks; empty for none."""
    overflow_seconds: float


class LaneClaims(NamedTuple):
    """What some attempts have in common that workers of the lane have claimed."""

    subject: Subject
    """What limits know of their jobs."""
    queue: str
    """The queue that they lock; empty for none."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What the ledger says at one time about the jobs that may move to pods, and about what such jobs wait for."""

    admission: Admission
    candidates: tuple[Candidate, ...] = ()
    locked: frozenset[str] = frozenset()
    """The queues whose lock a job holds."""
    claims: Mapping[LaneClaims, int] | None = None
    """How many attempts the lane's workers have claimed since the last look; None at the first look."""
    last_attempt: int = 0
    """The id of the newest attempt."""


def look(connection: Connection, last_attempt: int | None, limit: int) -> Waits:
    """Read the oldest jobs that may move to pods, and what has kept such jobs waiting since the last look.

    :param last_attempt: the newest attempt at the last look; None at the first one.
    """
    newest = connection.scalar(select(func.max(job_attempt.c.id))) or 0
    admission = current_limits.read_admission(connection)
    return Waits(
        admission,
        tuple(
            Candidate(row.id, Subject.of(row), row.queue_name if row.locks_queue else "", row.longest)
            for row in connection.execute(_overflowed(admission).limit(limit))
        ),
        frozenset(connection.scalars(select(queue_lock.c.queue_name).limit(_LOCKS))),
        None if last_attempt is None else _claims(connection, admission.kinds, last_attempt, newest),
        newest,
    )


def move_to_pods(connection: Connection, ids: Collection[int]) -> list[int]:
    """Move those of the jobs that still wait for a free worker. Return their ids."""
    if not ids:
        return []
    still = _overflowed(current_limits.read_admission(connection)).where(job_request.c.id.in_(sorted(ids)))
    changes = transitions.job_overflowed(DATABASE_CLOCK, CLUSTER_RUNNER, increased(job_request.c.run))

    def move(row: Row[Any]) -> int:
        connection.execute(update(job_request).where(job_request.c.id == row.id).values(changes))
        return int(row.id)

    return change_each(connection, still.with_for_update(skip_locked=True), job_request.c.id, len(ids), move)


def _overflowed(admission: Admission) -> Select[Any]:
    columns = job_request.c
    known = (columns[name] for name in Subject._fields)
    selected = select(columns.id, *known, columns.locks_queue, option_seconds("overflowSeconds").label("longest"))
    return selected.where(*in_sql(*of_overflow(admission.closed()))).order_by(columns.id)


def _claims(connection: Connection, kinds: frozenset[ScopeKind], after: int, newest: int) -> dict[LaneClaims, int]:
    """Count the attempts that workers of the lane have claimed since an attempt, by what may hold other jobs back."""
    claimed = select(job_attempt.c.job_id).where(
        job_attempt.c.id > after, job_attempt.c.id <= newest, job_attempt.c.runner == LANE_RUNNER
    )
    recent = claimed.order_by(desc(job_attempt.c.id)).limit(_CLAIMS).subquery()
    queue = case((job_request.c.locks_queue, job_request.c.queue_name), else_="").label("queue")
    known = (counted_column(dimension, kinds).label(dimension.field) for dimension in DIMENSIONS)
    each = select(*known, queue).select_from(recent.join(job_request, job_request.c.id == recent.c.job_id)).subquery().c
    found = connection.execute(select(*each, func.count()).group_by(*each))
    return {LaneClaims(Subject(*row[:-2]), row[-2]): row[-1] for row in found}
