"""Cancel and retry jobs, and fail jobs whose start timeout has expired."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select, update

from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger import transitions
from spoke_jobs.ledger.clock import DATABASE_CLOCK, clock_now
from spoke_jobs.ledger.expressions import clock_once, constant, option_seconds, unfinished_with
from spoke_jobs.ledger.finish import give_up
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, read_job, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, JobRequest, JobState


def cancel(connection: Connection, job_id: int) -> JobRequest | None:
    """Fail a waiting job; request the cancellation of a running one. Return None if there is no such job."""
    live = select(job_attempt.c.id).where(job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
    connection.execute(live.with_for_update())  # the attempt before its job: the order of all locks
    found = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id).with_for_update()).mappings()
    if (row := found.one_or_none()) is None:
        return None
    job = to_request(row)
    if job.state is JobState.WAITING:
        return give_up(connection, job_id, transitions.CANCELLED)
    if job.state.final or job.cancel_requested_at is not None:
        return job
    requested = update(job_request).where(job_request.c.id == job_id).values(cancel_requested_at=clock_now())
    return to_request(connection.execute(requested.returning(*REQUEST_COLUMNS)).mappings().one())


def retry(connection: Connection, job_id: int) -> JobRequest | None:
    """Start a failed job's next run, with full budgets. Return None if there is no such job.

    A job in another state stays as it is.
    """
    again = (
        update(job_request)
        .where(job_request.c.id == job_id, job_request.c.state == JobState.FAILED)
        .values(transitions.job_retried(DATABASE_CLOCK, job_request.c.run + 1, option_seconds("startTimeoutSeconds")))
        .returning(*REQUEST_COLUMNS)
    )
    row = connection.execute(again).mappings().one_or_none()
    return to_request(row) if row is not None else read_job(connection, job_id)


def why_not_retried(connection: Connection, job_id: int) -> UniquenessConflict:
    """Make the error of a retry whose unique key is taken. It names the job that has the key."""
    job = read_job(connection, job_id)
    assert job is not None
    return transitions.key_taken(job, connection.scalar(unfinished_with(job.unique_key, job_request.c.id)))


def expire_starts(connection: Connection, runner: str, known: Collection[str], limit: int) -> list[JobRequest]:
    """Fail the jobs that have not been started for the first time within their start timeout.

    :param known: the types that the caller can run. A job of another type fails as ``UnknownJobType``.
    """
    overdue = (
        select(*REQUEST_COLUMNS)
        .where(
            job_request.c.state == constant(JobState.WAITING),
            job_request.c.start_by < clock_once(),
            job_request.c.runner == runner,
            job_request.c.attempt == 0,
        )
        .order_by(job_request.c.start_by)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    jobs = [to_request(row) for row in connection.execute(overdue).mappings()]
    return [give_up(connection, job.id, transitions.not_started(job, known)) for job in jobs]
