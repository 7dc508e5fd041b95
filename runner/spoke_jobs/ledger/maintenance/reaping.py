"""End the attempts whose lease has lapsed. The caller commits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, or_, select

from spoke_jobs.contract.executors import REFERENCE, Executor, executor_of
from spoke_jobs.ledger.lifecycle import finish, transitions
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import clock_once, constant
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, JobRequest
from spoke_jobs.settings import LONGEST_LEASE_SECONDS


def reap(
    connection: Connection, runner: str, limit: int, *, others: bool, lapsed_seconds: float = 0.0
) -> list[JobRequest]:
    """Fail the attempts of a runner's jobs whose lease has lapsed.

    :param others: also those of other runners whose lease has been over for longer than any lasts.
    :param lapsed_seconds: for how long the lease must have been over.
    """
    ends = job_attempt.c.lease_expires_at
    of_runner = job_request.c.runner == runner
    lapsed = (
        select(job_attempt.c.id, job_attempt.c.token, job_request.c.runner)
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(
            job_attempt.c.state == constant(AttemptState.RUNNING),
            ends < clock_once(-lapsed_seconds),
            or_(of_runner, ends < clock_once(-LONGEST_LEASE_SECONDS)) if others else of_runner,
            job_request.c.runner != REFERENCE,
        )
        .order_by(ends)
        .with_for_update(skip_locked=True, key_share=True, of=(job_attempt, job_request))
    )

    def fail(row: Row[Any]) -> JobRequest | None:
        decide = executor_of(row.runner) is not Executor.CLUSTER  # there the operator decides
        return finish.fail(connection, row.token, transitions.WORKER_LOST, decide=decide)

    return change_each(connection, lapsed, job_attempt.c.id, limit, fail)
