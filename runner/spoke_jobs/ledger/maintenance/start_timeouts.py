"""Fail jobs that were not started within their start timeout."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, select

from spoke_jobs.ledger.claims.eligibility import NotSuspended, OfRunner, StartTimedOut, Waiting, in_sql
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.lifecycle.finish import give_up
from spoke_jobs.ledger.rows import read_listed
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobRequest


def expire_starts(connection: Connection, runner: str, known: Collection[str] | None, limit: int) -> list[JobRequest]:
    """Fail the jobs that have not been started for the first time within their start timeout.

    :param known: the types that the caller can run. A job of another type fails as ``UnknownJobType``. None: unknown.
    """
    overdue = (
        select(job_request.c.id)
        .where(
            *in_sql(Waiting(), OfRunner(runner), NotSuspended(), StartTimedOut()),
        )
        .order_by(job_request.c.start_by)
        .with_for_update(skip_locked=True)
    )

    def expire(row: Row[Any]) -> JobRequest | None:
        job = read_listed(connection, row.id)
        return job and give_up(connection, job.id, transitions.not_started(job, known))

    return change_each(connection, overdue, job_request.c.id, limit, expire)
