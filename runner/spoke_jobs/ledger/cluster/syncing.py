"""Queries and statements of the kubernetes runner and of sync: submissions, and ends that only the cluster knows.

The caller commits: all of sync's writes use the connection that holds its lock. Rows are read without payload and
result, which may be large and which the cluster does not need.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Connection,
    Float,
    Select,
    and_,
    bindparam,
    func,
    literal,
    null,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import LANE_RUNNER, moved_to_pod
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.claims.eligibility import (
    Due,
    NotBegun,
    NotSubmitted,
    NotSuspended,
    OfCluster,
    Waiting,
    in_sql,
    of_launch,
)
from spoke_jobs.ledger.columns.clock import UTCDateTime, clock_after, clock_now, waited_seconds
from spoke_jobs.ledger.lifecycle.finish import fail, give_up
from spoke_jobs.ledger.lifecycle.transitions import MESSAGE_LIMIT
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.sql.expressions import constant, due_since
from spoke_jobs.ledger.tables import job_attempt, job_event, job_request
from spoke_jobs.model import AttemptState, Failure, JobRequest, JobState

_UNFINISHED = (JobState.WAITING, JobState.RUNNING)
_THIS_RUN = and_(
    job_request.c.id == bindparam("job_id"),
    job_request.c.uid == bindparam("job_uid"),
    job_request.c.run == bindparam("job_run"),
    OfCluster().expression(),
)
"""Matches the job whose parameters ``_of`` returns. Other code may have assigned it since it was read: the trigger
``spoke_jobs_other_update`` then gives it another runner."""
_UNFINISHED_RUN = and_(_THIS_RUN, job_request.c.state.in_(_UNFINISHED))
_MAY_LAUNCH = select(job_request.c.id).where(
    _UNFINISHED_RUN,
    *in_sql(NotSubmitted(), NotBegun(), NotSuspended()),
)
_OLDER_IN_LINE = (
    select(job_request.c.id)
    .where(
        *in_sql(Waiting(), OfCluster(), NotSubmitted(), NotBegun(), Due()),
        job_request.c.queue_name == bindparam("queue"),
        job_request.c.locks_queue,
        job_request.c.rank <= bindparam("rank"),
        job_request.c.id < bindparam("job_id"),
    )
    .correlate(None)  # it reads rows of its own, although the statement around it reads the same table
)
_MAY_LAUNCH_IN_LINE = _MAY_LAUNCH.where(~_OLDER_IN_LINE.exists())
# Other code may have written a time to come, with which a job would stay young.
_YOUNG = job_request.c.created_at.between(clock_after(bindparam("since", type_=Float)), clock_now())
_MAY_LAUNCH_BEHIND_YOUNG = _MAY_LAUNCH.where(~_OLDER_IN_LINE.where(_YOUNG).exists())
_SUBMITTED = (
    update(job_request)
    .where(_THIS_RUN, job_request.c.submitted_at.is_(None))
    .values(submitted_at=clock_now())
    .returning(job_request.c.id)
)
"""These statements are built once: building them takes longer than running them."""

PATIENCE_SECONDS = 1.5
"""Sync submits a job only at this age. Until then the runner that dispatched the job tries."""

SyncRow = tuple[JobRequest, int | None]
"""A job, and the number of the attempt that holds a claim on it."""

COMPARED = 10_000
"""How many launched jobs, and how many claimed ones, are read at a time. Other code may write any number."""
_UNLAUNCHED = 200
"""How many jobs without a SpokeJob are read with them. Sync launches the others in its own routine, some at a time."""
_LEFT_OUT = 10_000
"""The most ids that one statement leaves out. PostgreSQL takes at most 65,535 parameters."""
_EVENTS = 500
"""How many events are looked at together."""
_START_CHANGES = frozenset({Action.SET_PRIORITY.value, Action.SUSPEND_JOB.value, Action.RESUME_JOB.value})

_ID = job_request.c.id + 0
"""The id, for an order that no index has: in the order of the primary key, all history would be read."""


class Unfinished(NamedTuple):
    """A part of the unfinished jobs."""

    rows: list[SyncRow]
    last: int | None
    """The id up to which launched and claimed jobs were read; None if there are no more of them."""


def unlaunched(
    connection: Connection, min_age_seconds: float, without: Collection[int], limit: int, after: int | None = None
) -> list[SyncRow]:
    """Read the oldest due jobs without a recorded submission, at least ``min_age_seconds`` old.

    :param without: ids to leave out; of very many, only some are.
    :param after: read only jobs with higher ids.
    """
    behind = () if after is None else (job_request.c.id > after,)
    statement = _rows().where(
        *in_sql(*of_launch(min_age_seconds)),
        job_request.c.id.not_in(list(islice(without, _LEFT_OUT))),
        *behind,
    )
    return _read(connection, statement.order_by(job_request.c.id).limit(limit))


def backlog(connection: Connection) -> tuple[int, float]:
    """Count the due jobs without a recorded submission, and the seconds for which the oldest has been due."""
    count, oldest, now = connection.execute(
        select(func.count(), type_coerce(func.min(due_since()), UTCDateTime), clock_now()).where(
            *in_sql(*of_launch(0.0))
        )
    ).one()
    # PostgreSQL before 17 cannot subtract `-infinity`, which other code may have written.
    return count, waited_seconds(oldest, now) if count else 0.0


def unfinished(connection: Connection, after: int | None = None) -> Unfinished:
    """Read unfinished jobs of the runner, in one snapshot: launched and claimed ones with ids above ``after``.

    With them come the oldest jobs that are due and have no SpokeJob. Those that are not due yet are left out: they may
    be many, and sync does nothing for them.
    """
    begun = or_(job_request.c.submitted_at.is_not(None), job_request.c.attempt > 0)
    due = in_sql(Due(), NotSubmitted(), NotBegun())
    behind = () if after is None else (after < _ID,)  # other code may have inserted ids below one
    parts = [
        _in_order(_rows().where(_waiting(), begun, *behind)),
        _in_order(_rows().where(_is_claimed(), *behind)),
        _rows().where(_waiting(), *due).order_by(job_request.c.id).limit(_UNLAUNCHED),
    ]
    marked = [select(literal(part).label("part"), rows.subquery()) for part, rows in enumerate(parts)]
    found = [dict(row) for row in connection.execute(union_all(*marked)).mappings()]
    ids = [[row["id"] for row in found if row["part"] == part] for part in range(2)]
    last = min((max(of_part) for of_part in ids if len(of_part) == COMPARED), default=None)
    kept = [row for row in found if row.pop("part") == 2 or last is None or row["id"] <= last]
    return Unfinished([_sync_row(row) for row in kept], last)


def claimed(connection: Connection) -> list[SyncRow]:
    """Read the claimed jobs, at most :data:`COMPARED`. It starts from the running attempts, which are indexed."""
    return _read(connection, _in_order(_rows().where(_is_claimed())))


def of_uids(connection: Connection, uids: Collection[UUID]) -> list[SyncRow]:
    """Read the jobs with these uids. Skip uids without a job."""
    if not uids:
        return []
    return _read(connection, _rows().where(job_request.c.uid.in_(list(uids)), *in_sql(OfCluster())))


def last_event(connection: Connection) -> int:
    """Return the id of the newest event; 0 without any."""
    return connection.scalar(select(func.max(job_event.c.id))) or 0


def changed_starts(connection: Connection, after: int) -> tuple[list[SyncRow], int]:
    """Read the jobs whose starts somebody has changed since an event, and return the last event that was looked at.

    An event with a lower id may be committed later. The comparison of all rows finds its job.
    """
    events = select(job_event.c.id, job_event.c.job_id, job_event.c.action).where(job_event.c.id > after)
    found = connection.execute(events.order_by(job_event.c.id).limit(_EVENTS)).all()
    jobs = sorted({event.job_id for event in found if event.action in _START_CHANGES and event.job_id is not None})
    rows = _read(connection, _rows().where(job_request.c.id.in_(jobs), *in_sql(OfCluster()))) if jobs else []
    return rows, found[-1].id if found else after


def may_launch(connection: Connection, job: JobRequest, wait_seconds: float | None = None) -> bool:
    """Whether the job's run still waits for its first SpokeJob: neither a submission nor an attempt is recorded.

    A job that locks its queue also waits for the SpokeJobs of older jobs that lock it. It does not wait for older jobs
    of a lower priority, or for those that are not due.

    :param wait_seconds: the age from which the job does not wait for an older one; None for no such age.
    """
    if not job.locks_queue:
        return connection.scalar(_MAY_LAUNCH, _of(job)) is not None
    values = _of(job) | {"queue": job.queue_name, "rank": -job.priority}
    if wait_seconds is None:
        return connection.scalar(_MAY_LAUNCH_IN_LINE, values) is not None
    return connection.scalar(_MAY_LAUNCH_BEHIND_YOUNG, values | {"since": -wait_seconds}) is not None


def memory_in_worker(connection: Connection, job: JobRequest) -> int | None:
    """Return the most memory that an attempt in a worker had when it ran out of memory; None if none was measured.

    Only a job that was dispatched for a worker and has moved to a pod has such an attempt.
    """
    if not moved_to_pod(job.runner, job.options.lane):
        return None
    ended = and_(job_attempt.c.runner == LANE_RUNNER, job_attempt.c.cause == Cause.OUT_OF_MEMORY.value)
    peak = select(func.max(job_attempt.c.peak_memory_bytes)).where(job_attempt.c.job_id == job.id, ended)
    found: int | None = connection.scalar(peak)
    return found


def record_submitted(connection: Connection, job: JobRequest) -> bool:
    """Record that the SpokeJob of the job's run exists. Return False if that was recorded before."""
    return connection.scalar(_SUBMITTED, _of(job)) is not None


def _of(job: JobRequest) -> dict[str, Any]:
    return {"job_id": job.id, "job_uid": job.uid, "job_run": job.run}


def end_attempt(connection: Connection, job: JobRequest, number: int, failure: Failure) -> bool:
    """Record that an attempt has ended on the cluster, and release its queue lock. The operator decides on a retry.

    Return False if the attempt's claim is gone: its end is already recorded.
    """
    token = connection.scalar(_live_token(job, number).with_for_update())
    return token is not None and fail(connection, token, failure, decide=False) is not None


def fail_job(connection: Connection, job: JobRequest, failure: Failure) -> bool:
    """Fail the job for good, with the attempt that holds a claim on it.

    Return False if the run has already ended or another one has begun: a recorded success takes precedence; and if an
    attempt has just claimed it. If the last attempt failed with the same cause, its message and its fingerprint stay.
    """
    token = connection.scalar(_live_token(job).with_for_update())  # the attempt before its job: the order of all locks
    held = select(job_request.c.cause, job_request.c.fingerprint, job_request.c.result_message)
    row = connection.execute(held.where(_UNFINISHED_RUN).with_for_update(key_share=True), _of(job)).one_or_none()
    if row is None:
        return False
    if token is None and connection.scalar(_live_token(job)) is not None:
        return False  # it was claimed while this waited for the row: decide again
    failure = replace(failure, message=failure.message[:MESSAGE_LIMIT])
    if token is None and row.cause == failure.cause:
        failure = replace(failure, message=row.result_message or failure.message, fingerprint=row.fingerprint)
    if token is not None:
        ended = fail(connection, token, failure, decide=False)
        if ended is not None and ended.state.final:  # its cancellation had been requested
            return True
    give_up(connection, job.id, failure)
    return True


def _rows() -> Select[Any]:
    columns = [null().label(column.name) if column.name in ("payload", "result") else column for column in MANY_COLUMNS]
    live = and_(job_attempt.c.job_id == job_request.c.id, job_attempt.c.state == constant(AttemptState.RUNNING))
    return select(*columns, job_attempt.c.number.label("live")).select_from(job_request.outerjoin(job_attempt, live))


def _waiting() -> Any:
    return and_(*in_sql(Waiting(), OfCluster()))


def _is_claimed() -> Any:
    return and_(job_attempt.c.id.is_not(None), *in_sql(OfCluster()))


def _in_order(rows: Select[Any]) -> Select[Any]:
    return rows.order_by(_ID).limit(COMPARED)


def _read(connection: Connection, statement: Select[Any]) -> list[SyncRow]:
    return [_sync_row(dict(row)) for row in connection.execute(statement).mappings()]


def _sync_row(values: dict[Any, Any]) -> SyncRow:
    live = values.pop("live")
    return to_request(values), live  # type: ignore[arg-type]


def _live_token(job: JobRequest, number: int | None = None) -> Select[Any]:
    statement = select(job_attempt.c.token).where(
        job_attempt.c.job_id == job.id,
        job_attempt.c.run == job.run,
        job_attempt.c.state == AttemptState.RUNNING,
    )
    return statement if number is None else statement.where(job_attempt.c.number == number)
