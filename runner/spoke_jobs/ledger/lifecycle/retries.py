"""Cancel and retry jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from sqlalchemy import Connection, select, update

from spoke_jobs.contract.causes import Cause
from spoke_jobs.errors import DependencyNotMet, UniquenessConflict
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK
from spoke_jobs.ledger.dependencies import batch_rows, dependency_rows
from spoke_jobs.ledger.dependencies.dependency_rules import Retried, after_retry
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle import checkpoints, transitions
from spoke_jobs.ledger.lifecycle.finish import finish_if_over, give_up
from spoke_jobs.ledger.notify import request_notification
from spoke_jobs.ledger.rows import MANY_COLUMNS, read_job, read_listed, to_request
from spoke_jobs.ledger.sql.expressions import increased, option_seconds, unfinished_with
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState, JobRequest, JobState

_LOOKS = 10
"""How often a retry looks for further jobs that failed because of the job, before it does without them."""


def cancel(connection: Connection, job_id: int, by: str = "") -> JobRequest | None:
    """Fail a job that no process runs; request the cancellation of a running one. Return None if there is no such job.

    :param by: who does so, for the job's message and its event.
    """
    live = select(job_attempt.c.id).where(job_attempt.c.job_id == job_id, job_attempt.c.state == AttemptState.RUNNING)
    connection.execute(live.with_for_update())  # the attempt before its job: the order of all locks
    found = connection.execute(
        select(*MANY_COLUMNS).where(job_request.c.id == job_id).with_for_update(key_share=True)
    ).mappings()
    if (row := found.one_or_none()) is None:
        return None
    job = to_request(row)
    if job.state.final or job.cancel_requested_at is not None:
        return job
    audit_events.record(connection, Action.CANCEL, by, job_id=job.id, job_type=job.job_type, detail=job.state.value)
    # The attempt of a running job may have been claimed between the two locks. If there is none, other code has written
    # the state or has ended the attempt, and no process would see a request.
    if job.state is not JobState.RUNNING or connection.scalar(live) is None:
        return give_up(connection, job_id, transitions.cancelled(by))
    changes = transitions.cancellation_requested(DATABASE_CLOCK)
    requested = update(job_request).where(job_request.c.id == job_id).values(changes)
    return to_request(connection.execute(requested.returning(*MANY_COLUMNS)).mappings().one())


def retry(connection: Connection, job_id: int, by: str = "", *, clear_checkpoints: bool = False) -> JobRequest | None:
    """Start a failed job's next run, with full budgets. Return None if there is no such job.

    The jobs that failed because of it, or because of a batch that it is in, are blocked again. A job in another state
    stays as it is.

    :param by: who does so, for the event.
    :param clear_checkpoints: delete what the job's attempts have saved.
    :raises DependencyNotMet: if a job that it depends on has failed.
    """
    job = read_job(connection, job_id)
    if job is None or job.state is not JobState.FAILED:
        return job  # without a mark on the jobs that it depends on
    following = _retry(connection, job_id, by, clear_checkpoints=clear_checkpoints)
    while following:  # no recursion: a batch's job may be in another batch, and so on
        then = read_listed(connection, following.pop())
        if then is not None and (then.state, then.cause) == (JobState.FAILED, Cause.DEPENDENCY_FAILED):
            with suppress(DependencyNotMet):  # another job that it depends on has failed
                following += _retry(connection, then.id, by, because=job_id)
    return read_job(connection, job_id)


def _retry(
    connection: Connection, job_id: int, by: str, *, because: int | None = None, clear_checkpoints: bool = False
) -> list[int]:
    """Retry one job, unless it is no longer failed. Return the jobs that follow the batches that this reopens.

    :param because: the job that somebody has retried, in a batch that this one follows.
    :raises DependencyNotMet: if a job that it depends on has failed.
    """
    follows = _follows(connection, job_id)
    if follows is None:
        return []
    awaited = {needs for waits in follows.blocked.values() for needs in waits}
    held = _held_by_batch(connection, job_id)
    _start_again(connection, [job_id], len(follows.open) + held, {job_id: follows.open}, awaited)
    for count in sorted({len(waits) for waits in follows.blocked.values()}):
        alike = {job: waits for job, waits in follows.blocked.items() if len(waits) == count}
        _start_again(connection, alike, count, alike, awaited)
    reopened = _reopen_batches(connection, [job_id, *follows.blocked])
    job = read_job(connection, job_id)
    assert job is not None
    detail = f"run {job.run}"
    if because is not None:
        detail += f", with job {because}"
    if clear_checkpoints:
        checkpoints.clear(connection, job_id)
        detail += ", checkpoints cleared"
    if follows.blocked:
        detail += f", {len(follows.blocked)} jobs blocked again"
    if reopened:
        detail += f", unfinished again in batch {', '.join(str(batch.id) for batch in reopened)}"
    audit_events.record(connection, Action.RETRY, by, job_id=job.id, job_type=job.job_type, detail=detail)
    return [batch.then_id for batch in reopened if batch.then_id is not None]


def cancel_batch(connection: Connection, batch_id: int, by: str) -> Batch | None:
    """Close a batch, and cancel the job that follows it, unless that runs after failures. Return None if there is none.

    The caller then cancels the batch's jobs, each in a transaction of its own: there may be many.
    """
    batch = batch_rows.close(connection, batch_id) or batch_rows.find(connection, batch_id)
    if batch is None or batch.finished_at is not None:
        return batch
    audit_events.record(connection, Action.CANCEL_BATCH, by, detail=str(batch))
    if batch.then_id is not None and batch.on_failed != "run":
        cancel(connection, batch.then_id, by)
    return finish_if_over(connection, batch)


def _follows(connection: Connection, job_id: int) -> Retried | None:
    """Lock a failed job and the jobs that its retry concerns, and decide what follows; None if it has not failed.

    If further jobs are found each time, those that failed meanwhile stay as they are.
    """
    found = dependency_rows.failed_because_of(connection, job_id)
    for left in reversed(range(_LOOKS)):
        savepoint = connection.begin_nested()
        again = dependency_rows.with_free_keys(connection, found, job_id)
        edges = dependency_rows.edges_of(connection, again | {job_id})
        needs = {edge.needs_id for edge in edges}
        needed = dependency_rows.lock_needed(connection, {job_id, *again, *needs}, needs, changes=True)
        # A job may have been dispatched after one of these before the lock, and have failed at once.
        before, found = found, dependency_rows.failed_because_of(connection, job_id)
        if found <= before or not left:
            savepoint.commit()
            break
        # Release the locks: one that is taken now could have a smaller id than these, and so lead to a deadlock.
        savepoint.rollback()
    if job_id not in needed or needed[job_id].state is not JobState.FAILED:
        return None
    still = {job for job in again if needed[job].cause == Cause.DEPENDENCY_FAILED and needed[job].state.final}
    return after_retry(job_id, still, edges, needed)


def _held_by_batch(connection: Connection, job_id: int) -> int:
    """Whether the job follows a batch that has not finished, as a number.

    :raises DependencyNotMet: if the batch has finished, and jobs of it have failed.
    """
    batch = batch_rows.before(connection, job_id)
    if batch is not None and batch.finished_at is not None and batch.failed and batch.on_failed != "run":
        raise batch_rows.not_met(job_id, batch)
    return int(batch is not None and batch.finished_at is None)


def _reopen_batches(connection: Connection, ids: Collection[int]) -> list[Batch]:
    """Count jobs that start again as unfinished in their batches, and return these batches."""
    members = batch_rows.members(connection, sorted(ids))
    dependency_rows.set_values(connection, [job for job, _ in members], {"awaited": True, "batch_open": True})
    return batch_rows.reopen(connection, [batch_id for _, batch_id in members])


def _start_again(
    connection: Connection,
    ids: Collection[int],
    count: int,
    waits: Mapping[int, Collection[int]],
    awaited: Collection[int],
) -> None:
    timeout = option_seconds("startTimeoutSeconds")
    changes = transitions.job_retried(DATABASE_CLOCK, increased(job_request.c.run), timeout, count)
    dependency_rows.set_values(connection, ids, changes)
    if not count:
        request_notification(connection)
    dependency_rows.set_values(connection, [job for job in ids if job in awaited], {"awaited": True})
    dependency_rows.reopen(connection, ids, {needs for one in waits.values() for needs in one})


def why_not_retried(connection: Connection, job_id: int) -> UniquenessConflict:
    """Make the error of a retry whose unique key is taken. It names the job that has the key."""
    job = read_listed(connection, job_id)
    assert job is not None
    return transitions.key_taken(job, connection.scalar(unfinished_with(job.unique_key, job_request.c.id)))
