"""Claims: the right to run one attempt of a job, granted to one process at a time. See DESIGN's promises 2 and 4."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.clock import clock_after, clock_now
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Refusal, Taken
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.ledger.transitions import fail
from spoke_jobs.model import AttemptState, Claim, Failure, JobRequest, JobState


class Contended(Exception):
    """Another process changed the job between two looks at it: start the transaction anew."""


def claim(
    connection: Connection, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float
) -> Claim | Refusal:
    """Claim one attempt of one job, taking over a claim whose lease has lapsed.

    :raises Contended: start the transaction anew.
    """
    live = connection.execute(
        select(
            job_attempt.c.token,
            job_attempt.c.number,
            job_attempt.c.lease_expires_at,
            clock_now().label("now"),
        )
        .where(job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
        .with_for_update()
    ).one_or_none()
    row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id).with_for_update()).mappings()
    found = row.one_or_none()
    if found is None or found["uid"] != uid:
        return NoRow()
    job = to_request(found)
    if job.state.final:
        return AlreadyFinal(job)
    if job.run != run:
        return NotThisAttempt()
    if live is not None:
        return _claim_from_another(connection, job, live, number, worker, lease_seconds)
    if job.state is JobState.RUNNING:
        raise Contended  # its attempt was claimed after we looked for one
    if (over := _ended(connection, job, number)) is not None:
        return over
    if number <= job.attempt:
        return NotThisAttempt()
    token = uuid.uuid4()
    if job.locks_queue and not take_lock(connection, job, token):
        return QueueHeld()
    return start(connection, job, number, token, worker, lease_seconds)


def _claim_from_another(
    connection: Connection, job: JobRequest, live: Any, number: int, worker: str, lease_seconds: float
) -> Claim | Refusal:
    token, live_number = live.token, live.number
    left = (live.lease_expires_at - live.now).total_seconds()
    if live_number > number:
        return NotThisAttempt()
    if left > 0:
        return Taken(left)
    if live_number == number:
        # The same attempt's second pod: the first one's token stops counting here.
        return _take_over(connection, job, token, worker, lease_seconds)
    ended = fail(connection, token, Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning), decide=False)
    if ended is not None and ended.state.final:  # somebody had asked for its end
        return AlreadyFinal(ended)
    fresh = uuid.uuid4()
    if job.locks_queue and not take_lock(connection, job, fresh):
        return QueueHeld()
    return start(connection, job, number, fresh, worker, lease_seconds)


def _take_over(connection: Connection, job: JobRequest, old: UUID, worker: str, lease_seconds: float) -> Claim:
    fresh = uuid.uuid4()
    number = connection.scalar(
        update(job_attempt)
        .where(job_attempt.c.token == old)
        .values(
            token=fresh,
            worker=worker,
            claimed_at=clock_now(),
            heartbeat_at=clock_now(),
            lease_expires_at=clock_after(lease_seconds),
        )
        .returning(job_attempt.c.number)
    )
    assert number is not None
    connection.execute(update(queue_lock).where(queue_lock.c.token == old).values(token=fresh))
    return Claim(job, number, fresh, lease_seconds)


def start(
    connection: Connection, job: JobRequest, number: int, token: UUID, worker: str, lease_seconds: float
) -> Claim:
    """Write the attempt and its claim, for a job that waits."""
    connection.execute(
        insert(job_attempt).values(
            job_id=job.id,
            run=job.run,
            number=number,
            token=token,
            state=AttemptState.RUNNING,
            worker=worker,
            claimed_at=clock_now(),
            heartbeat_at=clock_now(),
            lease_expires_at=clock_after(lease_seconds),
        )
    )
    row = (
        connection.execute(
            update(job_request)
            .where(job_request.c.id == job.id)
            .values(
                state=JobState.RUNNING,
                assigned=True,
                attempt=number,
                status=0,
                result_message="",
                run_after=None,
                started_at=job.started_at or clock_now(),
                updated_at=clock_now(),
            )
            .returning(*REQUEST_COLUMNS)
        )
        .mappings()
        .one()
    )
    return Claim(to_request(row), number, token, lease_seconds)


def _ended(connection: Connection, job: JobRequest, number: int) -> AttemptOver | None:
    row = connection.execute(
        select(job_attempt.c.cause, job_attempt.c.error_type, job_attempt.c.for_good).where(
            job_attempt.c.job_id == job.id,
            job_attempt.c.run == job.run,
            job_attempt.c.number == number,
            job_attempt.c.state == AttemptState.FAILED,
        )
    ).one_or_none()
    return row and AttemptOver(Failure(row.cause, error_type=row.error_type, for_good=row.for_good))


def take_lock(connection: Connection, job: JobRequest, token: UUID) -> bool:
    """Take the lock of the job's queue; False if another job holds it."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(queue_lock)
        .values(queue_name=job.queue_name, job_id=job.id, token=token, acquired_at=clock_now())
        .on_conflict_do_nothing(index_elements=[queue_lock.c.queue_name])
        .returning(queue_lock.c.queue_name)  # a row count isn't told of an insert
    )
    return connection.scalar(statement) is not None
