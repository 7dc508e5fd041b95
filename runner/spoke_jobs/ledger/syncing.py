"""What the kubernetes runner and sync read and write: submissions, and the ends that only the cluster knows.

Each works on a connection whose transaction the caller ends: sync's writes all go over the one connection that holds
its lock. Rows are read without payload and result, which are nothing to the cluster and may be large.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)

from spoke_jobs.ledger.clock import clock_after, clock_now
from spoke_jobs.ledger.expressions import constant
from spoke_jobs.ledger.finish import fail, give_up
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.ledger.transitions import MESSAGE_LIMIT
from spoke_jobs.model import AttemptState, Failure, JobRequest, JobState

RUNNER = "kubernetes"
_UNFINISHED = (JobState.WAITING, JobState.RUNNING)
_THIS_RUN = and_(
    job_request.c.id == bindparam("job_id"),
    job_request.c.uid == bindparam("job_uid"),
    job_request.c.run == bindparam("job_run"),
)
"""Of the job that ``_of`` gives as parameters."""
_UNFINISHED_RUN = and_(_THIS_RUN, job_request.c.state.in_(_UNFINISHED))
_MAY_LAUNCH = select(job_request.c.id).where(
    _UNFINISHED_RUN,
    job_request.c.submitted_at.is_(None),
    job_request.c.attempt == 0,
)
_SUBMITTED = (
    update(job_request)
    .where(_THIS_RUN, job_request.c.submitted_at.is_(None))
    .values(submitted_at=clock_now())
    .returning(job_request.c.id)
)
"""Both are made once: for each job, to make them would take longer than the database does."""

PATIENCE_SECONDS = 1.5
"""From a dispatch: so long a job is left to its runner's own try; sync launches it then."""

SyncRow = tuple[JobRequest, int | None]
"""A job, and the number of the attempt that holds a claim on it."""


def unlaunched(connection: Connection, min_age_seconds: float, without: Collection[int], limit: int) -> list[SyncRow]:
    """The oldest due jobs whose SpokeJob nobody has seen yet, older than so many seconds, but for some ids."""
    statement = _rows().where(
        _waiting(),
        job_request.c.submitted_at.is_(None),
        or_(job_request.c.run_after.is_(None), job_request.c.run_after <= clock_now()),
        job_request.c.created_at <= clock_after(-min_age_seconds),
        job_request.c.id.not_in(list(without)),
    )
    return _read(connection, statement.order_by(job_request.c.id).limit(limit))


def backlog(connection: Connection) -> tuple[int, float]:
    """How many due jobs have no SpokeJob that anybody has seen, and for how many seconds the oldest has been due."""
    due = func.greatest(job_request.c.created_at, func.coalesce(job_request.c.run_after, job_request.c.created_at))
    waits = func.extract("epoch", clock_now() - func.min(due))
    count, seconds = connection.execute(
        select(func.count(), waits).where(_waiting(), job_request.c.submitted_at.is_(None), due <= clock_now())
    ).one()
    return count, max(float(seconds or 0.0), 0.0)


def unfinished(connection: Connection) -> list[SyncRow]:
    """Every job of the runner that isn't final, as of one moment: those that wait, and those that are claimed.

    But for those that are not due yet and have no SpokeJob: of them there may be many, and nothing is to be done.
    """
    begun = or_(
        job_request.c.submitted_at.is_not(None),
        job_request.c.attempt > 0,
        job_request.c.run_after.is_(None),
        job_request.c.run_after <= clock_now(),
    )
    return _read(connection, union_all(_rows().where(_waiting(), begun), _rows().where(_is_claimed())))


def claimed(connection: Connection) -> list[SyncRow]:
    """The jobs that an attempt holds a claim on, found by the attempts: those are few, and indexed."""
    return _read(connection, _rows().where(_is_claimed()))


def of_uids(connection: Connection, uids: Collection[UUID]) -> list[SyncRow]:
    """The jobs with these uids, as far as there are any."""
    if not uids:
        return []
    return _read(connection, _rows().where(job_request.c.runner == RUNNER, job_request.c.uid.in_(list(uids))))


def may_launch(connection: Connection, job: JobRequest) -> bool:
    """Whether the job's run still waits for its first SpokeJob: neither a submission nor an attempt is recorded."""
    return connection.scalar(_MAY_LAUNCH, _of(job)) is not None


def record_submitted(connection: Connection, job: JobRequest) -> bool:
    """Record that the SpokeJob of the job's run exists; False if that is recorded already."""
    return connection.scalar(_SUBMITTED, _of(job)) is not None


def _of(job: JobRequest) -> dict[str, Any]:
    return {"job_id": job.id, "job_uid": job.uid, "job_run": job.run}


def end_attempt(connection: Connection, job: JobRequest, number: int, failure: Failure) -> bool:
    """Record that an attempt has ended on the cluster, and let go of its queue; the job waits for the operator.

    False if the attempt holds no claim any more: whoever recorded its end knew better.
    """
    token = connection.scalar(_live_token(job, number).with_for_update())
    return token is not None and fail(connection, token, failure, decide=False) is not None


def fail_job(connection: Connection, job: JobRequest, failure: Failure) -> bool:
    """Make the job final with this failure, ending the attempt that holds a claim on it.

    False if the job's run is final already, or another run by now: a recorded success always wins. Where the job's
    last attempt failed with the same cause, its own words stay.
    """
    token = connection.scalar(_live_token(job).with_for_update())  # the attempt before its job: everybody's order
    held = select(job_request.c.cause, job_request.c.result_message).where(_UNFINISHED_RUN).with_for_update()
    row = connection.execute(held, _of(job)).one_or_none()
    if row is None:
        return False
    message = failure.message[:MESSAGE_LIMIT]
    if token is None and row.cause == failure.cause and row.result_message:
        message = row.result_message
    if token is not None:
        ended = fail(connection, token, failure, decide=False)
        if ended is not None and ended.state.final:  # somebody had asked for its end
            return True
    give_up(connection, job.id, replace(failure, message=message))
    return True


def _rows() -> Select[Any]:
    left_out = {"payload": literal(""), "result": null()}
    columns = [left_out[column.name].label(column.name) if column.name in left_out else column
               for column in REQUEST_COLUMNS]  # fmt: skip
    live = and_(job_attempt.c.job_id == job_request.c.id, job_attempt.c.state == constant(AttemptState.RUNNING))
    return select(*columns, job_attempt.c.number.label("live")).select_from(job_request.outerjoin(job_attempt, live))


def _waiting() -> Any:
    return and_(job_request.c.state == constant(JobState.WAITING), job_request.c.runner == constant(RUNNER))


def _is_claimed() -> Any:
    return and_(job_attempt.c.id.is_not(None), job_request.c.runner == constant(RUNNER))


def _read(connection: Connection, statement: Select[Any] | CompoundSelect[Any]) -> list[SyncRow]:
    found: list[SyncRow] = []
    for row in connection.execute(statement).mappings():
        values = dict(row)
        live = values.pop("live")
        found.append((to_request(values), live))  # type: ignore[arg-type]
    return found


def _live_token(job: JobRequest, number: int | None = None) -> Select[Any]:
    statement = select(job_attempt.c.token).where(
        job_attempt.c.job_id == job.id,
        job_attempt.c.run == job.run,
        job_attempt.c.state == AttemptState.RUNNING,
    )
    return statement if number is None else statement.where(job_attempt.c.number == number)
