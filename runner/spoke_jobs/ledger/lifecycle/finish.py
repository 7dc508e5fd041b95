"""The statements of a running attempt: its heartbeats, and its end. The caller commits.

Rows are locked in one order everywhere, the attempt before its job, so that heartbeats, ends, claims and the reaper
cannot deadlock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Update, and_, case, delete, func, literal, select, update

from spoke_jobs.contract.causes import CAUSES, CauseClass
from spoke_jobs.contract.retry import GiveUp, TryAgain
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK, UTCDateTime, clock_after, clock_now
from spoke_jobs.ledger.dependencies import batch_rows, dependency_rows
from spoke_jobs.ledger.dependencies.dependency_rules import Edge, Needed, after_ends, failure_of, failure_of_batch
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.lifecycle.inserts import insert_jobs
from spoke_jobs.ledger.lifecycle.on_failure import after_final_failure
from spoke_jobs.ledger.notify import request_notification
from spoke_jobs.ledger.rows import MANY_COLUMNS, read_listed, to_request
from spoke_jobs.ledger.sql.each_alone import change_alone
from spoke_jobs.ledger.sql.expressions import increased, later_of, live, option_seconds, retention, unfinished
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import (
    AttemptState,
    AttemptUsage,
    Failure,
    JobOptions,
    JobRequest,
    JobState,
    Progress,
    Pulse,
)
from spoke_jobs.shared.clean_text import storable

logger = logging.getLogger(__name__)

SETTLED_AT_ONCE, SETTLED_AFTER_FAILURE = 10_000, 500
"""How many dependencies one call of :func:`settle` handles, and how many after a failure: it writes each failed job
alone, which takes longer."""
SETTLING_SECONDS = 1.0
"""How long a process goes on settling at a time. It ends what it has begun."""
_UNBLOCKED = transitions.job_unblocked(
    DATABASE_CLOCK,
    later_of(job_request.c.run_after, clock_now()),
    later_of(job_request.c.start_by, clock_after(option_seconds("startTimeoutSeconds"))),
)


class ClaimedAttempt(NamedTuple):
    """The attempt that holds a claim."""

    job_id: int
    run: int
    number: int


def lock_claim(connection: Connection, token: UUID) -> ClaimedAttempt:
    """Lock the claim until the transaction's end, and return its attempt.

    :raises Superseded: if the token's claim is gone.
    """
    attempt = select(job_attempt.c.job_id, job_attempt.c.run, job_attempt.c.number)
    row = connection.execute(attempt.where(live(token)).with_for_update()).one_or_none()
    if row is None:
        raise transitions.superseded()
    return ClaimedAttempt(*row)


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
        message = storable(progress.message)
        connection.execute(
            update(job_request)
            .where(job_request.c.id == held.job_id, job_request.c.state == JobState.RUNNING)
            .values(transitions.job_progressed(DATABASE_CLOCK, progress.percent, message))
        )
    return Pulse.HELD if held.cancel_requested_at is None else Pulse.CANCELLED


def keep_output(connection: Connection, token: UUID, tail: str, *, ended: bool) -> None:
    """Keep the last lines that an attempt has printed.

    While it runs, do not wait for a transaction of its job that holds the row: the next lines follow. After its success
    none follow, so wait. The two need different states, so that a late statement of the first kind replaces nothing.
    """
    state = AttemptState.SUCCEEDED if ended else AttemptState.RUNNING
    held = and_(job_attempt.c.token == token, job_attempt.c.state == state)
    changes = update(job_attempt).where(held).values(transitions.output_kept(tail))
    if not ended:
        free = select(job_attempt.c.id).where(held).with_for_update(skip_locked=True)
        changes = changes.where(job_attempt.c.id == free.scalar_subquery())
    connection.execute(changes)


def succeed(
    connection: Connection,
    token: UUID,
    result: Any,
    progress: Progress | None,
    usage: AttemptUsage,
    *,
    keep: bool = True,
) -> None:
    """Record that the attempt, and so the job, succeeded.

    :param progress: the last progress, unless it is already recorded.
    :param keep: whether the row stays for its retention; otherwise the retention is over at once.
    :raises Superseded: if the token's claim is gone.
    """
    if not try_succeed(connection, token, result, progress, usage, keep=keep):
        raise transitions.superseded()


def try_succeed(
    connection: Connection,
    token: UUID,
    result: Any,
    progress: Progress | None,
    usage: AttemptUsage,
    *,
    keep: bool = True,
) -> bool:
    """Like :func:`succeed`, but return False if the token's claim is gone."""
    # A final state that other code has written stays.
    open_jobs = select(job_request.c.id).where(job_request.c.id == job_attempt.c.job_id, unfinished())
    job_id = connection.scalar(
        update(job_attempt)
        .where(live(token), open_jobs.exists())
        .values(transitions.attempt_succeeded(DATABASE_CLOCK, transitions.used(usage)))
        .returning(job_attempt.c.job_id)
    )
    if job_id is None:
        return False
    _release_queue(connection, token)
    message = job_request.c.result_message if progress is None else storable(progress.message)
    awaited = connection.scalar(
        update(job_request)
        .where(job_request.c.id == job_id)
        .values(transitions.job_succeeded(DATABASE_CLOCK, result, message, retention() if keep else 0.0))
        .returning(job_request.c.awaited)
    )
    if awaited:
        _settle_or_later(connection, job_id)
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
    held = (
        select(job_request.c.cancel_requested_at, job_request.c.runner)
        .where(job_request.c.id == attempt.job_id)
        .with_for_update(key_share=True)
    )
    job = connection.execute(held).one()
    if job.cancel_requested_at is not None:
        return give_up(connection, attempt.job_id, transitions.CANCELLED)
    follows: TryAgain | GiveUp = transitions.without_decision(failure)
    if decide:
        follows = _decide(connection, attempt.job_id, attempt.run, attempt.number, failure)
    if isinstance(follows, GiveUp):
        return give_up(connection, attempt.job_id, failure)
    following = increased(job_request.c.run)
    changes = transitions.job_tried_again(DATABASE_CLOCK, failure, follows.delay_seconds, job.runner, following)
    waits = update(job_request).where(job_request.c.id == attempt.job_id, unfinished()).values(changes)
    if "runner" in changes:
        request_notification(connection)  # sync launches it
    return _changed(connection, attempt.job_id, waits)[0]


def release(connection: Connection, token: UUID) -> bool:
    """Undo a claim whose attempt was not started. Return False if the claim is gone.

    The job waits as before, and has been due since the same time. But the claim has cleared the message of its last
    attempt's failure; the cause stays.
    """
    released = delete(job_attempt).where(live(token))
    attempt = connection.execute(
        released.returning(job_attempt.c.job_id, job_attempt.c.number, job_attempt.c.due_at)
    ).one_or_none()
    if attempt is None:
        return False
    _release_queue(connection, token)
    due_at = literal(attempt.due_at, UTCDateTime)
    row = connection.execute(
        update(job_request)
        .where(job_request.c.id == attempt.job_id, unfinished())
        .values(
            transitions.job_released(DATABASE_CLOCK, attempt.number, case((due_at > job_request.c.created_at, due_at)))
        )
        .returning(job_request.c.cancel_requested_at)
    ).one_or_none()
    # There is none if other code has written a final state: that stays.
    if row is not None and row.cancel_requested_at is not None:
        give_up(connection, attempt.job_id, transitions.CANCELLED)
    return True


def give_up(connection: Connection, job_id: int, failure: Failure) -> JobRequest:
    """Fail an unfinished job for good, with what follows: its ``on_failure``, and the jobs that depend on it.

    The caller makes sure that no attempt holds a claim and that the row cannot change in the meantime.
    """
    job = _fail_for_good(connection, job_id, failure)
    if job.open_dependencies:  # it was blocked
        dependency_rows.close_edges(connection, [job_id])
        dependency_rows.set_values(connection, [job_id], {"open_dependencies": 0})
        job = job.evolve(open_dependencies=0)
    if job.awaited and _settle_or_later(connection, job_id):
        job = job.evolve(awaited=False)
    return job


def settle(connection: Connection, job_id: int) -> bool:
    """Unblock or fail the jobs that depend on a job that has ended, in the transaction that records the end.

    A failure fails jobs through many levels. At most :data:`SETTLED_AT_ONCE` dependencies are handled in one call. If
    there are more, return False, and let :mod:`~spoke_jobs.ledger.maintenance.settling` go on. Each call closes
    dependencies on the job, so a repetition ends.
    """
    ended = dependency_rows.read_needed(connection, job_id)
    has_failed = ended.state is JobState.FAILED
    limit = SETTLED_AFTER_FAILURE if has_failed else SETTLED_AT_ONCE
    edges: list[Edge] = []
    level, seen = {job_id}, {job_id}
    while level and len(edges) < limit:
        found = dependency_rows.open_edges_to(connection, level, limit - len(edges))
        edges += found
        level = {edge.job_id for edge in found if has_failed and not edge.runs_after_failure} - seen
        seen |= level
    blocked = dependency_rows.lock_blocked(connection, {edge.job_id for edge in edges})
    needless = {edge.job_id for edge in edges if edge.needs_id == job_id and edge.job_id not in blocked}
    dependency_rows.close_needless_edges(connection, job_id, needless)
    outcome = after_ends({job_id: has_failed}, blocked, edges)
    known = {job_id: ended}
    for dependent, needs in outcome.failed.items():
        failed = _fail_for_good(connection, dependent, failure_of(known[needs]))
        in_batch = failed.batch_id if failed.batch_open else None
        known[dependent] = Needed(failed.id, failed.uid, failed.job_type, failed.state, failed.cause, in_batch)
    dependency_rows.close_edges(connection, outcome.failed)
    dependency_rows.close_edges(connection, outcome.open, known)
    dependency_rows.set_values(connection, outcome.failed, {"open_dependencies": 0})
    for count in sorted(set(outcome.open.values())):
        _set_open(connection, [dependent for dependent, left in outcome.open.items() if left == count], count)
    # A job may have been dispatched after one that fails here, between the first query and the lock.
    whole = job_id in dependency_rows.no_longer_awaited(connection, known)
    _count_in_batches(connection, known.values())
    return whole


def _settle_or_later(connection: Connection, job_id: int) -> bool:
    """Like :func:`settle`, but an error about a dependent does not undo the job's own end.

    Return False if there is more to do: the job stays awaited, and :mod:`~spoke_jobs.ledger.maintenance.settling` tries
    again.
    """
    whole = change_alone(connection, partial(settle, connection, job_id))
    if whole is None:
        logger.error("job %d has ended, but not what depends on it; retrying", job_id, extra={"request_id": job_id})
    return bool(whole)


def settle_many(connection: Connection, ids: Collection[int]) -> None:
    """Like :func:`settle`, for many jobs, most of which only a batch depends on. An error undoes none of their ends.

    Jobs that it does not come to within :data:`SETTLING_SECONDS` are left to
    :mod:`~spoke_jobs.ledger.maintenance.settling`.
    """
    until = time.monotonic() + SETTLING_SECONDS
    needed = {edge.needs_id for edge in dependency_rows.open_edges_to(connection, ids, SETTLED_AT_ONCE)}
    for job_id in sorted(needed):
        if time.monotonic() > until:
            break
        _settle_or_later(connection, job_id)
    others = [job_id for job_id in ids if job_id not in needed]
    if others:
        change_alone(connection, partial(_count_many, connection, others))


def _count_many(connection: Connection, ids: Collection[int]) -> None:
    """Count jobs that no job waits for in their batches."""
    dependency_rows.no_longer_awaited(connection, ids)
    _count_in_batches(connection, dependency_rows.read_many(connection, ids))


def close_batch(connection: Connection, batch_id: int, by: str = "") -> Batch | None:
    """Close a batch. If all its jobs have ended, the job that follows starts. Return None if there is no batch.

    :param by: who closes it by hand; empty for the code that opened it, which writes no event.
    """
    closed = batch_rows.close(connection, batch_id)
    if closed is not None and by:
        audit_events.record(connection, Action.CLOSE_BATCH, by, detail=str(closed))
    return finish_if_over(connection, closed or batch_rows.find(connection, batch_id))


def finish_if_over(connection: Connection, batch: Batch | None) -> Batch | None:
    """Finish a closed batch whose jobs have all ended. Return it as it is then."""
    if batch is None or not batch.over or batch.finished_at is not None:
        return batch
    _finish(connection, batch)
    return batch_rows.find(connection, batch.id)


def _count_in_batches(connection: Connection, ended: Iterable[Needed]) -> None:
    uncounted = [job for job in ended if job.batch_id is not None]
    if not uncounted:
        return
    dependency_rows.set_values(connection, [job.id for job in uncounted], {"batch_open": False})
    ends = [batch_rows.End(job.batch_id, job.state is JobState.FAILED) for job in uncounted if job.batch_id is not None]
    for batch in batch_rows.count_ends(connection, ends):
        _finish(connection, batch)


def _finish(connection: Connection, batch: Batch) -> None:
    batch_rows.finish(connection, batch)
    if batch.then_id is None:
        return
    waits = dependency_rows.lock_blocked(connection, [batch.then_id]).get(batch.then_id)
    if waits is None:  # it was cancelled, or has run before a retry of one of the batch's jobs
        return
    if batch.failed and batch.on_failed != "run":
        give_up(connection, batch.then_id, failure_of_batch(batch))
    else:
        _set_open(connection, [batch.then_id], max(waits - 1, 0))


def _set_open(connection: Connection, ids: Collection[int], count: int) -> None:
    """Write how many dependencies blocked jobs still wait for. With none, they are unblocked."""
    dependency_rows.set_values(connection, ids, {"open_dependencies": count} if count else _UNBLOCKED)
    if not count:
        request_notification(connection)


def _fail_for_good(connection: Connection, job_id: int, failure: Failure) -> JobRequest:
    fails = (
        update(job_request)
        .where(job_request.c.id == job_id, unfinished())
        .values(transitions.job_failed(DATABASE_CLOCK, failure, retention()))
    )
    job, changed = _changed(connection, job_id, fails)
    if changed and (following := after_final_failure(job)) is not None:
        insert_jobs(connection, [following])
        request_notification(connection)
    return job


def _changed(connection: Connection, job_id: int, change: Update) -> tuple[JobRequest, bool]:
    """Change an unfinished job. Return it, and whether it changed: other code may have written a final state."""
    row = connection.execute(change.returning(*MANY_COLUMNS)).mappings().one_or_none()
    if row is not None:
        return to_request(row), True
    found = read_listed(connection, job_id)
    assert found is not None  # its attempt refers to it, or the caller has just read it
    return found, False


def charged(connection: Connection, job_id: int, run: int, before: int) -> Mapping[CauseClass, int]:
    """Count the failed attempts of a run with a lower number than ``before``, by class of cause.

    Other code may have written any number of attempts, each with another cause. Unknown causes count as one.
    """
    failed = (
        select(case((job_attempt.c.cause.in_(CAUSES), job_attempt.c.cause), else_="").label("cause"))
        .where(
            job_attempt.c.job_id == job_id,
            job_attempt.c.run == run,
            job_attempt.c.number < before,
            job_attempt.c.state == AttemptState.FAILED,
        )
        .subquery()
    )
    counts = connection.execute(select(failed.c.cause, func.count()).group_by(failed.c.cause)).all()
    return transitions.charged((cause, count) for cause, count in counts)


def _decide(connection: Connection, job_id: int, run: int, number: int, failure: Failure) -> TryAgain | GiveUp:
    row = connection.execute(select(job_request.c.options, job_request.c.uid).where(job_request.c.id == job_id)).one()
    options = JobOptions.from_json(row.options if isinstance(row.options, dict) else {})
    return transitions.next_step(options, charged(connection, job_id, run, number), failure, row.uid, run, number)


def _release_queue(connection: Connection, token: UUID) -> None:
    connection.execute(delete(queue_lock).where(queue_lock.c.token == token))
