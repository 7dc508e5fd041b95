"""How much work the lane `worker` has, for autoscaling of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, type_coerce

from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.ledger.claims import limited_claims
from spoke_jobs.ledger.claims.eligibility import OfRunner, Selected, in_sql, of_free_worker
from spoke_jobs.ledger.columns.clock import UTCDateTime, clock_now, waited_seconds
from spoke_jobs.ledger.sql.expressions import constant, due_since
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, ClaimFilter


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """The work of a set of workers."""

    due: int = 0
    """How many jobs a free worker would start. What a pause, a limit or a queue's lock holds back is left out."""
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
    closed = limited_claims.current_admission(connection).closed()
    loads = {}
    for name, only in sets.items():
        since = func.min(due_since())
        due = select(func.count(), type_coerce(since, UTCDateTime), clock_now())
        count, oldest, now = connection.execute(due.where(*in_sql(*of_free_worker(closed), Selected(only)))).one()
        runs = (
            select(func.count())
            .select_from(job_attempt.join(job_request, job_request.c.id == job_attempt.c.job_id))
            .where(
                job_attempt.c.state == constant(AttemptState.RUNNING),
                *in_sql(OfRunner(LANE_RUNNER), Selected(only)),
            )
        )
        loads[name] = LaneLoad(count, connection.scalar(runs) or 0, waited_seconds(oldest, now) if count else 0.0)
    return loads
