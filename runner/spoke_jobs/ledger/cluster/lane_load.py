"""How much work the lane `worker` has, for autoscaling of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Connection, desc, func, not_, select, type_coerce, union_all

from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.contract.limit_scopes import DIMENSIONS, ScopeKind, Subject
from spoke_jobs.ledger.claims.eligibility import OfRunner, Selected, in_sql, of_free_worker
from spoke_jobs.ledger.columns.clock import UTCDateTime, waited_seconds
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.sql.expressions import constant, counted_column, due_since
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.limits.admission import Admission
from spoke_jobs.model import AttemptState, ClaimFilter


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """The work of a set of workers."""

    due: int = 0
    """How many jobs free workers would start now: of those that lock one queue the first one, and no more than each
    limit leaves room for."""
    running: int = 0
    """How many attempts run."""
    oldest_seconds: float = 0.0
    """For how long the oldest due job has been due."""

    @property
    def jobs(self) -> int:
        """How many jobs would run now, if there were workers enough."""
        return self.due + self.running


def lane_loads(connection: Connection, sets: Mapping[str, ClaimFilter]) -> dict[str, LaneLoad]:
    """Return the work of each set of workers, by name.

    :param sets: the jobs that the workers of each set take.
    """
    admission = current_limits.read_admission(connection)
    loads = {}
    for name, only in sets.items():
        due, oldest = _due(connection, admission, only)
        runs = (
            select(func.count())
            .select_from(job_attempt.join(job_request, job_request.c.id == job_attempt.c.job_id))
            .where(
                job_attempt.c.state == constant(AttemptState.RUNNING),
                *in_sql(OfRunner(LANE_RUNNER), Selected(only)),
            )
        )
        loads[name] = LaneLoad(
            admission.startable(due),
            connection.scalar(runs) or 0,
            0.0 if oldest is None else waited_seconds(oldest, admission.now),
        )
    return loads


def _due(connection: Connection, admission: Admission, only: ClaimFilter) -> tuple[dict[Subject, int], datetime | None]:
    """Count the due jobs that may start outside the closed scopes, by what limits know of them.

    Return also since when the oldest of them has been due. Of very many groups, the smallest ones count toward limits
    on all jobs only, as running jobs do.
    """
    each = _next_jobs(in_sql(*of_free_worker(admission.closed()), Selected(only)), admission.kinds).subquery().c
    subject, count = [each[name] for name in Subject._fields], func.count()
    oldest = type_coerce(func.min(each.since), UTCDateTime)
    groups = select(*subject, count, oldest).group_by(*subject).order_by(desc(count))
    rows = connection.execute(groups.limit(current_limits.COUNTED_APART)).all()
    due = {Subject(*row[:-2]): row[-2] for row in rows}
    if len(rows) == current_limits.COUNTED_APART:
        rest = (connection.scalar(select(func.count(each.since))) or 0) - sum(due.values())
        due[current_limits.OTHERS] = due.get(current_limits.OTHERS, 0) + max(0, rest)
    return due, min((row[-1] for row in rows), default=None)


def _next_jobs(conditions: list[ColumnElement[bool]], kinds: frozenset[ScopeKind]) -> CompoundSelect[Any]:
    """Select the jobs that fulfill the conditions, and of those that lock one queue only the first one."""
    known = [counted_column(dimension, kinds).label(dimension.field) for dimension in DIMENSIONS]
    first = func.min(job_request.c.id).label("id"), func.min(due_since()).label("since")
    locking = select(*first).where(*conditions, job_request.c.locks_queue).group_by(job_request.c.queue_name)
    heads = locking.subquery()
    return union_all(
        select(*known, due_since().label("since")).where(*conditions, not_(job_request.c.locks_queue)),
        select(*known, heads.c.since).select_from(job_request.join(heads, heads.c.id == job_request.c.id)),
    )
