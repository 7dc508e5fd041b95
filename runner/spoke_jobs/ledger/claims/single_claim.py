"""Claim one attempt: the right to run it, which one process has at a time. ``bulk`` claims many jobs at once."""

from __future__ import annotations

import uuid
from uuid import UUID

from sqlalchemy import Connection, insert, select, update

from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, clock_now
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.lifecycle.finish import fail
from spoke_jobs.ledger.lifecycle.transitions import LiveAttempt
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, ClaimRefusal, NotThisAttempt, QueueHeld
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.sql.expressions import live as is_live
from spoke_jobs.ledger.sql.expressions import upsert
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import AttemptState, Claim, Failure, JobOptions, JobRequest, JobState


class Contended(Exception):
    """Another process changed the job between two reads. Start the transaction again."""


def claim(
    connection: Connection,
    job_id: int,
    uid: UUID,
    run: int,
    number: int,
    worker: str,
    lease_seconds: float,
    job_type: str = "",
) -> Claim | ClaimRefusal:
    """Claim one attempt of one job, taking over a claim whose lease has lapsed.

    :raises Contended: start the transaction again.
    """
    live = _live_attempt(connection, job_id)
    row = connection.execute(
        select(*MANY_COLUMNS).where(job_request.c.id == job_id).with_for_update(key_share=True)
    ).mappings()
    found = row.one_or_none()
    job = to_request(found) if found is not None else None
    if (refusal := transitions.claim_refusal(job, uid, run, number, live, job_type)) is not None:
        return refusal
    assert job is not None
    if live is not None and live.number == number:
        # A second pod of the same attempt: the first one's token becomes invalid.
        return _take_over(connection, job, live, worker, lease_seconds)
    if live is not None:
        ended = fail(connection, live.token, transitions.WORKER_LOST, decide=False)
        if ended is not None:
            if ended.state.final:  # its cancellation had been requested
                return AlreadyFinal(ended)
            job = job.evolve(run_after=ended.run_after)  # the next attempt has been due since then
    elif job.state is JobState.RUNNING and _has_live_attempt(connection, job_id):
        raise Contended  # it was claimed after the first read
    # Without an attempt, other code has written the state or has ended the attempt: the job waits.
    elif number <= job.attempt or _has_attempt(connection, job, number):
        return _ended(connection, job, number) or NotThisAttempt()
    token = uuid.uuid4()
    if job.locks_queue and not take_lock(connection, job, token):
        return QueueHeld()
    return start(connection, job, number, token, worker, lease_seconds)


def _live_attempt(connection: Connection, job_id: int) -> LiveAttempt | None:
    row = connection.execute(
        select(
            job_attempt.c.token,
            job_attempt.c.number,
            job_attempt.c.lease_expires_at,
            clock_now().label("now"),
        )
        .where(job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    return LiveAttempt(row.token, row.number, (row.lease_expires_at - row.now).total_seconds())


def _has_live_attempt(connection: Connection, job_id: int) -> bool:
    live = (job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
    return connection.scalar(select(job_attempt.c.id).where(*live)) is not None


def _has_attempt(connection: Connection, job: JobRequest, number: int) -> bool:
    """Whether there is an attempt of that number already, which only other code writes."""
    same = (job_attempt.c.job_id == job.id, job_attempt.c.run == job.run, job_attempt.c.number == number)
    return connection.scalar(select(job_attempt.c.id).where(*same)) is not None


def _take_over(connection: Connection, job: JobRequest, live: LiveAttempt, worker: str, lease_seconds: float) -> Claim:
    token = uuid.uuid4()
    connection.execute(
        update(job_attempt)
        .where(job_attempt.c.token == live.token)
        .values(transitions.attempt_claimed(DATABASE_CLOCK, worker, lease_seconds) | {"token": token})
    )
    connection.execute(update(queue_lock).where(queue_lock.c.token == live.token).values(token=token))
    return Claim(job, live.number, token, lease_seconds)


def start(
    connection: Connection, job: JobRequest, number: int, token: UUID, worker: str, lease_seconds: float
) -> Claim:
    """Write a new attempt of a waiting job, and its claim."""
    attempt = transitions.new_attempt(
        DATABASE_CLOCK, job.id, job.run, number, job.runner, job.due_at, worker, lease_seconds
    )
    connection.execute(insert(job_attempt).values(attempt | {"token": token}))
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == job.id)
        .values(transitions.job_claimed(DATABASE_CLOCK, number, job.started_at))
        .returning(*MANY_COLUMNS)
    ).mappings()
    return Claim(to_request(row.one()), number, token, lease_seconds, due_at=job.due_at)


def set_options(connection: Connection, token: UUID, options: JobOptions) -> None:
    """Write the options of a claimed job."""
    job_id = select(job_attempt.c.job_id).where(is_live(token)).scalar_subquery()
    connection.execute(update(job_request).where(job_request.c.id == job_id).values(options=options.to_json()))


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
    """Take the lock of the job's queue; return False if another job holds it."""
    statement = (
        upsert(connection, queue_lock)
        .values(queue_name=job.queue_name, job_id=job.id, token=token, acquired_at=clock_now())
        .on_conflict_do_nothing(index_elements=[queue_lock.c.queue_name])
        .returning(queue_lock.c.queue_name)  # `rowcount` is unavailable for INSERT
    )
    return connection.scalar(statement) is not None
