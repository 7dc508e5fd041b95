"""The guarded statements that move a job from state to state, each on a connection whose transaction the caller ends.

Rows are locked in one order everywhere, the attempt before its job, so that heartbeats, finishes, claims and the
reaper never wait for each other in a ring.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Select, Text, and_, case, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError

from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.retry import GiveUp, TryAgain, after_failure
from spoke_jobs.errors import Superseded, UniquenessConflict
from spoke_jobs.ledger.clock import clock_after, clock_now, in_utc
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import (
    RETENTION_SECONDS,
    AttemptState,
    Failure,
    JobOptions,
    JobRequest,
    JobState,
    NewJob,
    Progress,
    Pulse,
    after_final_failure,
)
from spoke_jobs.type_names import is_known

MESSAGE_LIMIT = 2000
TAIL_LIMIT = 8000
_ROWS_AT_ONCE = 500
_DAY = 86_400.0
_TRIES = 5
_SERIALIZATION_STATES = {"40P01", "40001"}
"""PostgreSQL's deadlock_detected and serialization_failure."""


def constant(value: str) -> Any:
    """A constant in the statement's text rather than beside it: a prepared plan can then use a partial index."""
    return literal(str(value), Text, literal_execute=True)


def constants(*values: str) -> list[Any]:
    """See :func:`constant`."""
    return [constant(value) for value in values]


def clock_once() -> Any:
    """The clock, read once for the statement: it can then bound the scan of an index, and not only filter its rows."""
    return select(clock_now()).scalar_subquery()


_FINAL = constants(JobState.SUCCEEDED, JobState.FAILED)


def insert_job(connection: Connection, new: NewJob) -> JobRequest:
    """Write a waiting job; where an unfinished one has its uniqueness key, return that one.

    :raises UniquenessConflict: if another transaction is taking the same keys in another order.
    """
    if new.unique_key is not None:
        return _insert_unique(connection, new)
    return insert_jobs(connection, [new])[0]


def insert_jobs(connection: Connection, new: Sequence[NewJob]) -> list[JobRequest]:
    """Write many waiting jobs. Uniqueness keys are taken in their own order, so that two batches never wait in a ring.

    :returns: the rows in the order given.
    """
    if len(new) == 1 and new[0].unique_key is None and (quick := quick_insert(connection, new[0])) is not None:
        return [quick]
    unique = sorted((job.unique_key, index) for index, job in enumerate(new) if job.unique_key is not None)
    written = {index: _insert_unique(connection, new[index]) for _, index in unique}
    plain = [index for index in range(len(new)) if index not in written]
    for start in range(0, len(plain), _ROWS_AT_ONCE):
        part = plain[start : start + _ROWS_AT_ONCE]
        values = {uuid.uuid4(): index for index in part}
        rows = connection.execute(
            insert(job_request)
            .values([_values(uid, new[index]) for uid, index in values.items()])
            .returning(*REQUEST_COLUMNS)
        ).mappings()
        written |= {values[row["uid"]]: to_request(row) for row in rows}
    return [written[index] for index in range(len(new))]


_QUICK = """
INSERT INTO job_request
    (uid, job_type, payload, queue_name, locks_queue, organization_id, campaign_id, runner, assigned, options, rank,
     run_after, start_by, state, created_at, updated_at)
VALUES
    (%(uid)s, %(job_type)s, %(payload)s, %(queue_name)s, %(locks_queue)s, %(organization_id)s, %(campaign_id)s,
     %(runner)s, %(assigned)s, %(options)s::json, %(rank)s, %(run_after)s,
     coalesce(%(run_after)s, clock_timestamp()) + make_interval(secs => %(start_timeout)s), 'waiting',
     clock_timestamp(), clock_timestamp())
RETURNING id, created_at, updated_at, start_by
"""


def quick_insert(connection: Connection, new: NewJob) -> JobRequest | None:
    """Write one job past SQLAlchemy's statements, which cost more than the database does; None for another driver."""
    if connection.dialect.name != "postgresql" or connection.dialect.driver not in ("psycopg", "psycopg_async"):
        return None
    uid, options = uuid.uuid4(), new.options.to_json()
    values = {
        "uid": uid,
        "job_type": new.job_type,
        "payload": new.payload,
        "queue_name": new.queue_name,
        "locks_queue": new.locks_queue,
        "organization_id": new.organization_id,
        "campaign_id": new.campaign_id,
        "runner": new.runner,
        "assigned": new.assigned,
        "options": json.dumps(options),
        "rank": -new.priority,
        "run_after": new.run_after,
        "start_timeout": new.options.start_timeout_seconds,
    }
    row = connection.exec_driver_sql(_QUICK, values).one()
    return JobRequest(
        id=row.id,
        uid=uid,
        job_type=new.job_type,
        payload=new.payload,
        queue_name=new.queue_name,
        locks_queue=new.locks_queue,
        organization_id=new.organization_id,
        campaign_id=new.campaign_id,
        assigned=new.assigned,
        status=0,
        result_message="",
        created_at=in_utc(row.created_at),
        updated_at=in_utc(row.updated_at),
        state=JobState.WAITING,
        runner=new.runner,
        run=1,
        attempt=0,
        options=JobOptions.from_json(options),
        priority=new.priority,
        unique_key=None,
        run_after=new.run_after,
        start_by=row.start_by and in_utc(row.start_by),
        submitted_at=None,
        started_at=None,
        finished_at=None,
        cause="",
        result=None,
    )


def _insert_unique(connection: Connection, new: NewJob) -> JobRequest:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(job_request)
        .values(**_values(uuid.uuid4(), new))
        .on_conflict_do_nothing(
            index_elements=[job_request.c.unique_key],
            index_where=and_(job_request.c.unique_key.is_not(None), _unfinished()),
        )
        .returning(*REQUEST_COLUMNS)
    )
    holder = _unfinished_of(new.unique_key, *REQUEST_COLUMNS)
    try:
        for _ in range(_TRIES):
            row = connection.execute(statement).mappings().one_or_none()
            row = row or connection.execute(holder).mappings().one_or_none()
            if row is not None:
                return to_request(row)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") in _SERIALIZATION_STATES:
            raise UniquenessConflict(
                f"another transaction takes the unique_key {new.unique_key!r} as well, and this one can't go on beside "
                "it: it took another of its keys before (in the opposite order), or sees the database as it was. Roll "
                "back and dispatch again; one dispatch_jobs() call takes all its keys in one order"
            ) from error
        raise
    # Its holder ended between the two looks, time and again.
    raise UniquenessConflict(f"the unique_key {new.unique_key!r} changes hands too quickly: dispatch again")


def _unfinished() -> Any:
    return job_request.c.state.in_(constants(JobState.WAITING, JobState.RUNNING))


def _unfinished_of(unique_key: str | None, *columns: Any) -> Select[Any]:
    return select(*columns).where(job_request.c.unique_key == unique_key, _unfinished())


def _values(uid: UUID, new: NewJob) -> dict[str, Any]:
    start_by: Any = None
    if (seconds := new.options.start_timeout_seconds) is not None:
        start_by = clock_after(seconds) if new.run_after is None else new.run_after + timedelta(seconds=seconds)
    return {
        "uid": uid,
        "job_type": new.job_type,
        "payload": new.payload,
        "queue_name": new.queue_name,
        "locks_queue": new.locks_queue,
        "organization_id": new.organization_id,
        "campaign_id": new.campaign_id,
        "runner": new.runner,
        "assigned": new.assigned,
        "options": new.options.to_json(),
        "rank": -new.priority,
        "unique_key": new.unique_key,
        "run_after": new.run_after,
        "start_by": start_by,
        "state": JobState.WAITING,
        "created_at": clock_now(),
        "updated_at": clock_now(),
    }


def lock_claim(connection: Connection, token: UUID) -> None:
    """Lock the claim until the transaction's end.

    :raises Superseded: if the token holds no claim any more.
    """
    held = select(job_attempt.c.id).where(_held(token)).with_for_update()
    if connection.scalar(held) is None:
        raise superseded()


def heartbeat(connection: Connection, token: UUID, lease_seconds: float, progress: Progress | None) -> Pulse:
    """Renew the lease; with it, the progress."""
    asked = select(job_request.c.cancel_requested_at).where(job_request.c.id == job_attempt.c.job_id)
    held = connection.execute(
        update(job_attempt)
        .where(_held(token))
        .values(heartbeat_at=clock_now(), lease_expires_at=clock_after(lease_seconds))
        .returning(job_attempt.c.job_id, asked.scalar_subquery().label("cancel_requested_at"))
    ).one_or_none()
    if held is None:
        return Pulse.GONE
    if progress is not None:
        connection.execute(
            update(job_request)
            .where(job_request.c.id == held.job_id, job_request.c.state == JobState.RUNNING)
            .values(status=progress.percent, result_message=storable(progress.message), updated_at=clock_now())
        )
    return Pulse.HELD if held.cancel_requested_at is None else Pulse.CANCELLED


def succeed(connection: Connection, token: UUID, result: Any) -> None:
    """Record that the attempt, and so the job, succeeded.

    :raises Superseded: if the token holds no claim any more.
    """
    if not try_succeed(connection, token, result):
        raise superseded()


def try_succeed(connection: Connection, token: UUID, result: Any) -> bool:
    """:func:`succeed`, or False if the token holds no claim any more."""
    job_id = connection.scalar(
        update(job_attempt)
        .where(_held(token))
        .values(state=AttemptState.SUCCEEDED, finished_at=clock_now(), heartbeat_at=clock_now())
        .returning(job_attempt.c.job_id)
    )
    if job_id is None:
        return False
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
            expires_at=clock_after(_retention()),
        )
    )
    return True


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
            output_tail=storable(failure.output_tail)[-TAIL_LIMIT:],
        )
        .returning(job_attempt.c.job_id, job_attempt.c.run, job_attempt.c.number)
    ).one_or_none()
    if attempt is None:
        return None
    _release_queue(connection, token)
    cancelled = select(job_request.c.cancel_requested_at).where(job_request.c.id == attempt.job_id).with_for_update()
    if connection.scalar(cancelled) is not None:
        return give_up(connection, attempt.job_id, Failure(Cause.CANCELLED, Cause.CANCELLED.meaning))
    follows: TryAgain | GiveUp = TryAgain(failure.retry_after_seconds or 0)
    if decide:
        follows = _decide(connection, attempt.job_id, attempt.run, attempt.number, failure)
    if isinstance(follows, GiveUp):
        return give_up(connection, attempt.job_id, failure)
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == attempt.job_id)
        .values(
            state=JobState.WAITING,
            assigned=False,
            cause=failure.cause,
            result_message=storable(failure.message)[:MESSAGE_LIMIT],
            run_after=clock_after(follows.delay_seconds),
            updated_at=clock_now(),
        )
        .returning(*REQUEST_COLUMNS)
    ).mappings()
    return to_request(row.one())


def release(connection: Connection, token: UUID) -> bool:
    """Undo a claim whose attempt was never begun: the job waits as it did before. False if the claim is gone."""
    attempt = connection.execute(
        delete(job_attempt).where(_held(token)).returning(job_attempt.c.job_id, job_attempt.c.number)
    ).one_or_none()
    if attempt is None:
        return False
    _release_queue(connection, token)
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == attempt.job_id)
        .values(
            state=JobState.WAITING,
            assigned=False,
            attempt=attempt.number - 1,
            started_at=None if attempt.number == 1 else job_request.c.started_at,
            updated_at=clock_now(),
        )
        .returning(job_request.c.cancel_requested_at)
    ).one()
    if row.cancel_requested_at is not None:
        give_up(connection, attempt.job_id, Failure(Cause.CANCELLED, Cause.CANCELLED.meaning))
    return True


def give_up(connection: Connection, job_id: int, failure: Failure) -> JobRequest:
    """Make an unfinished job final with this failure, and dispatch the job that is to follow it, if one is.

    The caller has seen to it that no attempt holds a claim any more, and that the row can't change meanwhile.
    """
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == job_id, job_request.c.state.in_(constants(JobState.WAITING, JobState.RUNNING)))
        .values(
            state=JobState.FAILED,
            status=-1,
            cause=failure.cause,
            result_message=storable(failure.message)[:MESSAGE_LIMIT],
            run_after=None,
            finished_at=clock_now(),
            updated_at=clock_now(),
            expires_at=clock_after(_retention()),
        )
        .returning(*REQUEST_COLUMNS)
    ).mappings()
    job = to_request(row.one())
    if (following := after_final_failure(job)) is not None:
        insert_jobs(connection, [following])
    return job


def cancel(connection: Connection, job_id: int) -> JobRequest | None:
    """End a job that waits; ask for the end of one that runs; None if there is no such job."""
    live = select(job_attempt.c.id).where(job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
    connection.execute(live.with_for_update())  # the attempt before its job: everybody's order
    found = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id).with_for_update()).mappings()
    if (row := found.one_or_none()) is None:
        return None
    job = to_request(row)
    if job.state is JobState.WAITING:
        return give_up(connection, job_id, Failure(Cause.CANCELLED, Cause.CANCELLED.meaning))
    if job.state.final or job.cancel_requested_at is not None:
        return job
    asked = update(job_request).where(job_request.c.id == job_id).values(cancel_requested_at=clock_now())
    return to_request(connection.execute(asked.returning(*REQUEST_COLUMNS)).mappings().one())


def retry(connection: Connection, job_id: int) -> JobRequest | None:
    """Start a failed job's next run, with full budgets. None if there is no such job; another state stays as it is."""
    start_by = case(
        (_seconds("startTimeoutSeconds").is_not(None), clock_after(_seconds("startTimeoutSeconds"))), else_=None
    )
    again = (
        update(job_request)
        .where(job_request.c.id == job_id, job_request.c.state == JobState.FAILED)
        .values(
            state=JobState.WAITING,
            run=job_request.c.run + 1,
            attempt=0,
            status=0,
            assigned=False,
            result_message="",
            cause="",
            run_after=None,
            start_by=start_by,
            cancel_requested_at=None,
            submitted_at=None,
            started_at=None,
            finished_at=None,
            expires_at=None,
            updated_at=clock_now(),
        )
        .returning(*REQUEST_COLUMNS)
    )
    row = connection.execute(again).mappings().one_or_none()
    if row is None:
        row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id)).mappings().one_or_none()
    return to_request(row) if row is not None else None


def expire_starts(connection: Connection, runner: str, known: Collection[str], limit: int) -> list[JobRequest]:
    """End the jobs that have waited for their first start for longer than they may.

    ``known`` are the types that the caller could have run: another type is named as the reason.
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
    return [give_up(connection, job.id, not_started(job, known)) for job in jobs]


def key_taken(job: JobRequest, holder: int | None) -> UniquenessConflict:
    """Why a job can't be started again: another one has its key."""
    other = f"job {holder}" if holder is not None else "another job"
    return UniquenessConflict(
        f"job {job.id} can't be started again while {other} has its unique_key {job.unique_key!r}: "
        "wait for its end, or cancel it"
    )


def why_not_again(connection: Connection, job_id: int) -> UniquenessConflict:
    """The error of a retry whose uniqueness key is taken, naming who has it."""
    row = connection.execute(select(*REQUEST_COLUMNS).where(job_request.c.id == job_id)).mappings().one()
    job = to_request(row)
    return key_taken(job, connection.scalar(_unfinished_of(job.unique_key, job_request.c.id)))


def not_started(job: JobRequest, known: Collection[str]) -> Failure:
    """Why a job is ended that has waited for too long, as a process sees it that knows these types."""
    seconds = job.options.start_timeout_seconds  # None if another release wrote it in another way
    waited = "it waited for longer than " + (f"{seconds:g} s" if seconds is not None else "it may")
    if not is_known(job.job_type, known):
        return Failure(Cause.UNKNOWN_JOB_TYPE, f"no worker that runs knows {job.job_type!r}: {waited}", for_good=True)
    return Failure(Cause.START_TIMEOUT, f"no worker had room for the job: {waited}", for_good=True)


class Pruned(NamedTuple):
    """What became of a batch of finished rows."""

    deleted: int
    looked_at: int
    last: int
    """The id of the last one looked at."""


def prune(
    connection: Connection,
    limit: int,
    runner: str | None = None,
    older_than_seconds: float | None = None,
    above: int = 0,
) -> Pruned:
    """Delete finished rows whose retention is over, the oldest first; or those that ended so long ago, by their ids.

    A row that a table of the application's refers to stays, and is looked at again a day later.

    :param above: with ``older_than_seconds``, only rows of higher ids: beyond a batch of which all stayed.
    """
    ours = [job_request.c.runner == runner] if runner is not None else []
    which = [job_request.c.state.in_(_FINAL), *ours]
    over = select(job_request.c.id).limit(limit).with_for_update(skip_locked=True)
    if older_than_seconds is None:
        over = over.where(job_request.c.expires_at < clock_once(), *which).order_by(job_request.c.expires_at)
    else:  # by hand, and rarely: it has no index of its own
        ended = job_request.c.finished_at < clock_after(-older_than_seconds)
        over = over.where(ended, job_request.c.id > above, *which).order_by(job_request.c.id)
    ids = list(connection.scalars(over))
    if not ids:
        return Pruned(0, 0, above)
    if _deleted(connection, ids):
        return Pruned(len(ids), len(ids), ids[-1])
    kept = [job_id for job_id in ids if not _deleted(connection, [job_id])]
    later = update(job_request).where(job_request.c.id.in_(kept)).values(expires_at=clock_after(_DAY))
    connection.execute(later)
    return Pruned(len(ids) - len(kept), len(ids), ids[-1])


def _deleted(connection: Connection, ids: Collection[int]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(delete(job_request).where(job_request.c.id.in_(ids)))
    except IntegrityError:
        return False
    return True


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
    row = connection.execute(select(job_request.c.options, job_request.c.uid).where(job_request.c.id == job_id)).one()
    return after_failure(
        JobOptions.from_json(row.options or {}).retry,
        charged(connection, job_id, run, number),
        failure.cause,
        for_good=failure.for_good,
        retry_after_seconds=failure.retry_after_seconds,
        key=f"{row.uid}-{run}-{number}",
    )


def _retention() -> Any:
    """The row's own retention in seconds, which the statement reads from its options."""
    return func.coalesce(_seconds("retentionSeconds"), RETENTION_SECONDS)


def _seconds(option: str) -> Any:
    return job_request.c.options[option].as_float()


def _release_queue(connection: Connection, token: UUID) -> None:
    connection.execute(delete(queue_lock).where(queue_lock.c.token == token))


def _held(token: UUID) -> Any:
    return and_(job_attempt.c.token == token, job_attempt.c.state == AttemptState.RUNNING)


def storable(text: str) -> str:
    """The text as every database takes it."""
    # PostgreSQL takes neither NUL nor lone surrogates, and a job's last words may hold both.
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
