"""The statements of a running attempt: its heartbeats, and its end. The caller commits.

Rows are locked in one order everywhere, the attempt before its job, so that heartbeats, ends, claims and the reaper
cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, select, update

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.ledger import transitions
from spoke_jobs.ledger.clock import DATABASE_CLOCK
from spoke_jobs.ledger.expressions import live, retention, unfinished
from spoke_jobs.ledger.inserts import insert_jobs
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import (
    AttemptState,
    Failure,
    JobOptions,
    JobRequest,
    JobState,
    Progress,
    Pulse,
    after_final_failure,
)


def lock_claim(connection: Connection, token: UUID) -> None:
    """Lock the claim until the transaction's end.

    :raises Superseded: if the token's claim is gone.
    """
    if connection.scalar(select(job_attempt.c.id).where(live(token)).with_for_update()) is None:
        raise transitions.superseded()


def heartbeat(connection: Connection, token: UUID, lease_seconds: float, progress: Progress | None) -> Pulse:
    """Renew the lease, and record progress if there is any."""
    cancelled = select(job_request.c.cancel_requested_at).where(job_request.c.id == job_attempt.c.job_id)
    held = connection.execute(
        update(job_attempt)
        .where(live(token))
        .values(transitions.lease_renewed(DATABASE_CLOCK, lease_seconds))
        .returning(job_attempt.c.job_id, cancelled.scalar_subquery().label("cancel_requested_at"))
    ).one_or_none()
    if held is None:
        return Pulse.GONE
    if progress is not None:
        message = transitions.storable(progress.message)
        connection.execute(
            update(job_request)
            .where(job_request.c.id == held.job_id, job_request.c.state == JobState.RUNNING)
            .values(transitions.job_progressed(DATABASE_CLOCK, progress.percent, message))
        )
    return Pulse.HELD if held.cancel_requested_at is None else Pulse.CANCELLED


def succeed(connection: Connection, token: UUID, result: Any) -> None:
    """Record that the attempt, and so the job, succeeded.

    :raises Superseded: if the token's claim is gone.
    """
    if not try_succeed(connection, token, result):
        raise transitions.superseded()


def try_succeed(connection: Connection, token: UUID, result: Any) -> bool:
    """Like :func:`succeed`, but return False if the token's claim is gone."""
    job_id = connection.scalar(
        update(job_attempt)
        .where(live(token))
        .values(transitions.attempt_succeeded(DATABASE_CLOCK))
        .returning(job_attempt.c.job_id)
    )
    if job_id is None:
        return False
    _release_queue(connection, token)
    connection.execute(
        update(job_request)
        .where(job_request.c.id == job_id)
        .values(transitions.job_succeeded(DATABASE_CLOCK, result, retention()))
    )
    return True


def fail(connection: Connection, token: UUID, failure: Failure, *, decide: bool) -> JobRequest | None:
    """Record that the attempt failed, and whether the job is retried. Return the job, or None if the claim is gone."""
    attempt = connection.execute(
        update(job_attempt)
        .where(live(token))
        .values(transitions.attempt_failed(DATABASE_CLOCK, failure))
        .returning(job_attempt.c.job_id, job_attempt.c.run, job_attempt.c.number)
    ).one_or_none()
    if attempt is None:
        return None
    _release_queue(connection, token)
    cancelled = select(job_request.c.cancel_requested_at).where(job_request.c.id == attempt.job_id).with_for_update()
    if connection.scalar(cancelled) is not None:
        return give_up(connection, attempt.job_id, transitions.CANCELLED)
    follows: TryAgain | GiveUp = transitions.without_decision(failure)
    if decide:
        follows = _decide(connection, attempt.job_id, attempt.run, attempt.number, failure)
    if isinstance(follows, GiveUp):
        return give_up(connection, attempt.job_id, failure)
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == attempt.job_id)
        .values(transitions.job_waits_again(DATABASE_CLOCK, failure, follows.delay_seconds))
        .returning(*REQUEST_COLUMNS)
    ).mappings()
    return to_request(row.one())


def release(connection: Connection, token: UUID) -> bool:
    """Undo a claim whose attempt was not started: the job waits as before. Return False if the claim is gone."""
    attempt = connection.execute(
        delete(job_attempt).where(live(token)).returning(job_attempt.c.job_id, job_attempt.c.number)
    ).one_or_none()
    if attempt is None:
        return False
    _release_queue(connection, token)
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == attempt.job_id)
        .values(transitions.job_released(DATABASE_CLOCK, attempt.number))
        .returning(job_request.c.cancel_requested_at)
    ).one()
    if row.cancel_requested_at is not None:
        give_up(connection, attempt.job_id, transitions.CANCELLED)
    return True


def give_up(connection: Connection, job_id: int, failure: Failure) -> JobRequest:
    """Fail an unfinished job for good, and dispatch the job of its ``on_failure``, if it has one.

    The caller makes sure that no attempt holds a claim and that the row cannot change in the meantime.
    """
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == job_id, unfinished())
        .values(transitions.job_failed(DATABASE_CLOCK, failure, retention()))
        .returning(*REQUEST_COLUMNS)
    ).mappings()
    job = to_request(row.one())
    if (following := after_final_failure(job)) is not None:
        insert_jobs(connection, [following])
    return job


def charged(connection: Connection, job_id: int, run: int, before: int) -> Mapping[CauseClass, int]:
    """Count the failed attempts of a run before one of them, by class of cause."""
    counts = connection.execute(
        select(job_attempt.c.cause, func.count())
        .where(
            job_attempt.c.job_id == job_id,
            job_attempt.c.run == run,
            job_attempt.c.number < before,
            job_attempt.c.state == AttemptState.FAILED,
        )
        .group_by(job_attempt.c.cause)
    ).all()
    return transitions.charged((cause, count) for cause, count in counts)


def _decide(connection: Connection, job_id: int, run: int, number: int, failure: Failure) -> TryAgain | GiveUp:
    row = connection.execute(select(job_request.c.options, job_request.c.uid).where(job_request.c.id == job_id)).one()
    options = JobOptions.from_json(row.options or {})
    return transitions.next_step(options, charged(connection, job_id, run, number), failure, row.uid, run, number)


def _release_queue(connection: Connection, token: UUID) -> None:
    connection.execute(delete(queue_lock).where(queue_lock.c.token == token))
