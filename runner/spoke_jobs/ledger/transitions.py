"""The guarded statements that move a job from state to state, each on a connection whose transaction the caller ends.

Rows are locked in one order everywhere, the attempt before its job, so that heartbeats, finishes, claims and the
reaper never wait for each other in a ring.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from spoke_jobs.contract.causes import CauseClass, cause_class
from spoke_jobs.contract.retry import GiveUp, TryAgain, after_failure
from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.clock import clock_after, clock_now
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import AttemptState, Failure, JobOptions, JobRequest, JobState, NewJob, Progress

MESSAGE_LIMIT = 2000
TAIL_LIMIT = 8000


def insert_job(connection: Connection, new: NewJob) -> JobRequest:
    """Write a waiting job."""
    row = connection.execute(
        insert(job_request)
        .values(
            uid=uuid.uuid4(),
            job_type=new.job_type,
            payload=new.payload,
            queue_name=new.queue_name,
            locks_queue=new.locks_queue,
            organization_id=new.organization_id,
            campaign_id=new.campaign_id,
            runner=new.runner,
            assigned=new.assigned,
            options=new.options.to_json(),
            state=JobState.WAITING,
            created_at=clock_now(),
            updated_at=clock_now(),
        )
        .returning(*REQUEST_COLUMNS)
    ).mappings()
    return to_request(row.one())


def lock_claim(connection: Connection, token: UUID) -> None:
    """Lock the claim until the transaction's end.

    :raises Superseded: if the token holds no claim any more.
    """
    held = select(job_attempt.c.id).where(_held(token)).with_for_update()
    if connection.scalar(held) is None:
        raise superseded()


def heartbeat(connection: Connection, token: UUID, lease_seconds: float, progress: Progress | None) -> bool:
    """Renew the lease; with it, the progress. False if the token holds no claim any more."""
    job_id = connection.scalar(
        update(job_attempt)
        .where(_held(token))
        .values(heartbeat_at=clock_now(), lease_expires_at=clock_after(lease_seconds))
        .returning(job_attempt.c.job_id)
    )
    if job_id is None:
        return False
    if progress is not None:
        connection.execute(
            update(job_request)
            .where(job_request.c.id == job_id, job_request.c.state == JobState.RUNNING)
            .values(status=progress.percent, result_message=_storable(progress.message), updated_at=clock_now())
        )
    return True


def succeed(connection: Connection, token: UUID, result: Any) -> None:
    """Record that the attempt, and so the job, succeeded.

    :raises Superseded: if the token holds no claim any more.
    """
    job_id = connection.scalar(
        update(job_attempt)
        .where(_held(token))
        .values(state=AttemptState.SUCCEEDED, finished_at=clock_now(), heartbeat_at=clock_now())
        .returning(job_attempt.c.job_id)
    )
    if job_id is None:
        raise superseded()
    _release_queue(connection, token)
    connection.execute(
        update(job_request)
        .where(job_request.c.id == job_id)
        .values(
            state=JobState.SUCCEEDED,
            status=100,
            result=result,
            cause="",
            finished_at=clock_now(),
            updated_at=clock_now(),
        )
    )


def fail(connection: Connection, token: UUID, failure: Failure, *, decide: bool) -> JobRequest | None:
    """Record that the attempt failed, and what becomes of the job; None if the token holds no claim any more."""
    attempt = connection.execute(
        update(job_attempt)
        .where(_held(token))
        .values(
            state=AttemptState.FAILED,
            finished_at=clock_now(),
            cause=failure.cause,
            error_type=failure.error_type[:MESSAGE_LIMIT],
            for_good=failure.for_good,
            output_tail=_storable(failure.output_tail)[-TAIL_LIMIT:],
        )
        .returning(job_attempt.c.job_id, job_attempt.c.run, job_attempt.c.number)
    ).one_or_none()
    if attempt is None:
        return None
    _release_queue(connection, token)
    follows: TryAgain | GiveUp = TryAgain(0)
    if decide:
        follows = _decide(connection, attempt.job_id, attempt.run, attempt.number, failure)
    message = _storable(failure.message)[:MESSAGE_LIMIT]
    changes: dict[str, Any] = {"cause": failure.cause, "result_message": message, "updated_at": clock_now()}
    match follows:
        case TryAgain(delay):
            changes |= {"state": JobState.WAITING, "assigned": False, "run_after": clock_after(delay)}
        case GiveUp():
            changes |= {"state": JobState.FAILED, "status": -1, "finished_at": clock_now()}
    row = connection.execute(
        update(job_request).where(job_request.c.id == attempt.job_id).values(**changes).returning(*REQUEST_COLUMNS)
    ).mappings()
    return to_request(row.one())


def charged(connection: Connection, job_id: int, run: int, before: int) -> Mapping[CauseClass, int]:
    """The failed attempts of a run before one of them, by class of cause."""
    rows = connection.execute(
        select(job_attempt.c.cause, func.count())
        .where(
            job_attempt.c.job_id == job_id,
            job_attempt.c.run == run,
            job_attempt.c.number < before,
            job_attempt.c.state == AttemptState.FAILED,
        )
        .group_by(job_attempt.c.cause)
    ).all()
    counts: dict[CauseClass, int] = {}
    for cause, count in rows:
        kind = cause_class(cause)
        if kind is not CauseClass.UNCHARGED:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def superseded() -> Superseded:
    """The one error of a process whose claim is gone."""
    return Superseded("another process holds this attempt's job now, or it has ended: nothing of this one is recorded")


def _decide(connection: Connection, job_id: int, run: int, number: int, failure: Failure) -> TryAgain | GiveUp:
    options = connection.scalar(select(job_request.c.options).where(job_request.c.id == job_id)) or {}
    earlier = charged(connection, job_id, run, number)
    return after_failure(JobOptions.from_json(options).retry, earlier, failure.cause, for_good=failure.for_good)


def _release_queue(connection: Connection, token: UUID) -> None:
    connection.execute(delete(queue_lock).where(queue_lock.c.token == token))


def _held(token: UUID) -> Any:
    return and_(job_attempt.c.token == token, job_attempt.c.state == AttemptState.RUNNING)


def _storable(text: str) -> str:
    # PostgreSQL takes neither NUL nor lone surrogates, and a job's last words may hold both.
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
