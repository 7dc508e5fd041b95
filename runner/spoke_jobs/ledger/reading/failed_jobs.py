"""How many jobs have failed since a time, for metrics: read by the index of failed jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.sql.expressions import constant
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState

_SETTLED_SECONDS = 5.0
"""How old an end must be: until then, the transaction of an earlier one may not be committed."""


@dataclass(frozen=True, slots=True)
class FailedJobs:
    """The failures up to a time."""

    count: int
    until: datetime


def failed_jobs(connection: Connection, runner: str, since: datetime | None) -> FailedJobs:
    """Count the runner's jobs that failed since a time, without those that were cancelled.

    :param since: the :attr:`FailedJobs.until` of the last count; None: count none, and begin now.
    """
    until = connection.execute(select(clock_after(-_SETTLED_SECONDS))).scalar_one()
    if since is None or until <= since:
        return FailedJobs(0, until if since is None else since)
    failed = (
        job_request.c.state == constant(JobState.FAILED),
        job_request.c.finished_at > since,
        job_request.c.finished_at <= until,
        job_request.c.runner == runner,
        job_request.c.cause != Cause.CANCELLED.value,
    )
    return FailedJobs(connection.scalar(select(func.count()).where(*failed)) or 0, until)
