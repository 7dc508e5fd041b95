"""The values that each transition writes, and the decisions that precede it. Pure, and shared by both ledgers.

The functions that return :data:`Changes` take a clock. The database's clock returns SQL expressions; the clock of the
ledger in memory returns datetimes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.executors import Executor, runner_after
from spoke_jobs.contract.retry import GiveUp, TryAgain, after_failure
from spoke_jobs.errors import Superseded, UniquenessConflict
from spoke_jobs.ledger.columns.clock import FixedClock
from spoke_jobs.ledger.port import AlreadyFinal, ClaimRefusal, NoRow, NotThisAttempt, Taken
from spoke_jobs.model import (
    USAGE_FIELDS,
    Attempt,
    AttemptState,
    AttemptUsage,
    DispatchedRow,
    Failure,
    JobOptions,
    JobRequest,
    JobState,
    NewJob,
)
from spoke_jobs.shared import durations
from spoke_jobs.shared.clean_text import CAUSE_LIMIT, storable
from spoke_jobs.type_names import is_known

MESSAGE_LIMIT = 2000
TAIL_LIMIT = 8000
CANCELLED = Failure(Cause.CANCELLED, Cause.CANCELLED.meaning)
WORKER_LOST = Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning)

Changes = dict[str, Any]
"""New values by column; a value may be an SQL expression."""
_DISPATCHED = tuple(field.name for field in fields(DispatchedRow))
_FAILURE_FIELDS = tuple(sorted({item.name for item in fields(Failure)} & {item.name for item in fields(Attempt)}))
"""The fields of an attempt's record that its failure sets."""
_LIMITS = {"cause": CAUSE_LIMIT}
"""The most characters of a text that a failure sets, if that is not :data:`MESSAGE_LIMIT`."""


class Clock(Protocol):
    """The source of a transition's times."""

    def now(self) -> Any:
        """The time."""

    def after(self, seconds: Any) -> Any:
        """The time ``seconds`` from now; None (NULL) for None (NULL)."""


def dispatched(new: NewJob) -> Changes:
    """The values that a dispatch sets in the row, by field."""
    return {name: getattr(new, name) for name in _DISPATCHED}


def new_request(given: Changes, **generated: Any) -> JobRequest:
    """The row of a job that has just been dispatched.

    :param given: see :func:`dispatched`.
    :param generated: what the ledger adds: ``id``, ``uid``, ``created_at``, ``updated_at`` and ``start_by``.
    """
    return JobRequest(**given, state=dispatched_state(given["open_dependencies"]), **generated)


def dispatched_state(open_dependencies: int) -> JobState:
    """The state of a job at the start of a run.

    :param open_dependencies: how many jobs it waits for.
    """
    return JobState.BLOCKED if open_dependencies else JobState.WAITING


def may_be_replaced(job: JobRequest, new: NewJob) -> bool:
    """Whether a job, which has the unique key of a new one, gets its payload and its due time.

    A job in a later run has begun: it may have saved a checkpoint of its payload before it was retried, or moved to a
    pod.
    """
    begun = job.attempt > 0 or job.run > 1 or job.state not in (JobState.WAITING, JobState.BLOCKED)
    free = job.executor is not Executor.OTHERS
    return new.on_conflict == "replace" and free and not begun and job.job_type == new.job_type


def job_replaced(clock: Clock, job: JobRequest, new: NewJob, start_by: Any) -> Changes:
    """The row of a job that has not begun, with the payload and the due time of a new one.

    The due time of a job that has a SpokeJob no longer changes.

    :param start_by: the latest time of the new one's start.
    """
    changes: Changes = {"payload": new.payload, "updated_at": clock.now()}
    if job.submitted_at is None:
        changes |= {"run_after": new.run_after, "start_by": start_by}
    if job.options.payload_version != new.options.payload_version:
        changes["options"] = replace(job.options, payload_version=new.options.payload_version)
    return changes


def start_deadline(new: NewJob) -> tuple[datetime | None, float | None]:
    """The latest time of the first start: a fixed time, or a number of seconds from now. Both None: no limit."""
    seconds = new.options.start_timeout_seconds
    if seconds is None or new.run_after is None:
        return None, seconds
    return new.run_after + timedelta(seconds=seconds), None


def job_claimed(clock: Clock, number: Any, started_at: Any) -> Changes:
    """The job's row after an attempt has claimed it.

    :param started_at: the start of the run's first attempt; None if this is the first.
    """
    return {
        "state": JobState.RUNNING,
        "assigned": True,
        "attempt": number,
        "status": 0,
        "result_message": "",
        "run_after": None,
        "started_at": clock.now() if started_at is None else started_at,
        "updated_at": clock.now(),
    }


def lease_renewed(clock: Clock, lease_seconds: Any) -> Changes:
    """The attempt's row after a heartbeat."""
    return {"heartbeat_at": clock.now(), "lease_expires_at": clock.after(lease_seconds)}


def attempt_claimed(clock: Clock, worker: Any, lease_seconds: Any) -> Changes:
    """The attempt's row after a worker has claimed it or taken it over."""
    return {"worker": worker, "claimed_at": clock.now()} | lease_renewed(clock, lease_seconds)


def new_attempt(
    clock: Clock, job_id: Any, run: Any, number: Any, runner: Any, due_at: Any, worker: Any, lease_seconds: Any
) -> Changes:
    """The row of a new attempt.

    :param runner: the runner of the job's row.
    :param due_at: since when the job has been due. The claim removes that from the job's row.
    """
    of_job = {"job_id": job_id, "run": run, "number": number, "runner": runner, "due_at": due_at}
    return of_job | {"state": AttemptState.RUNNING} | attempt_claimed(clock, worker, lease_seconds)


def job_progressed(clock: Clock, percent: Any, message: Any) -> Changes:
    """The job's row after progress."""
    return {"status": percent, "result_message": message, "updated_at": clock.now()}


def used(usage: AttemptUsage) -> Changes:
    """The columns of an attempt's row that say what it used."""
    return {name: getattr(usage, name) for name in USAGE_FIELDS}


def attempt_succeeded(clock: Clock, usage: Changes) -> Changes:
    """The row of an attempt that succeeded.

    :param usage: the columns that say what it used (:func:`used`).
    """
    return {"state": AttemptState.SUCCEEDED, "finished_at": clock.now(), "heartbeat_at": clock.now()} | usage


def output_kept(tail: str) -> Changes:
    """The row of an attempt of which the ledger keeps the last printed lines."""
    return {"output_tail": storable(tail[-TAIL_LIMIT:])}


def job_succeeded(clock: Clock, result: Any, message: Any, retention_seconds: Any) -> Changes:
    """The row of a job that succeeded.

    :param message: the message of its last progress.
    """
    return {
        "state": JobState.SUCCEEDED,
        "status": 100,
        "result": result,
        "result_message": message,
        "cause": "",
        "fingerprint": "",
        "finished_at": clock.now(),
        "updated_at": clock.now(),
        "expires_at": clock.after(retention_seconds),
    }


def attempt_failed(clock: Clock, failure: Failure) -> Changes:
    """The row of an attempt that failed."""
    ended = {"state": AttemptState.FAILED, "finished_at": clock.now(), "for_good": failure.for_good}
    return ended | used(failure.usage) | {name: _recorded(name, getattr(failure, name)) for name in _FAILURE_FIELDS}


def _recorded(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return storable(value[-TAIL_LIMIT:]) if name == "output_tail" else storable(value, _LIMITS.get(name, MESSAGE_LIMIT))


def job_waits_again(clock: Clock, failure: Failure, delay_seconds: float) -> Changes:
    """The row of a job that waits for another attempt after a failed one."""
    return {
        "state": JobState.WAITING,
        "assigned": False,
        "cause": storable(failure.cause, CAUSE_LIMIT),
        "fingerprint": failure.fingerprint,
        "result_message": storable(failure.message, MESSAGE_LIMIT),
        "run_after": clock.after(delay_seconds),
        "updated_at": clock.now(),
    }


def job_moved(clock: Clock, failure: Failure, runner: str, run: Any) -> Changes:
    """The row of a job whose attempt failed, and which starts its next run under another runner, at once.

    The attempts of a SpokeJob are numbered from 1, so those in pods need a run of their own.
    """
    return job_waits_again(clock, failure, 0.0) | job_overflowed(clock, runner, run)


def job_overflowed(clock: Clock, runner: str, run: Any) -> Changes:
    """The row of a job that has waited for too long, and starts its next run under another runner, at once.

    Its ``run_after`` stays, so that its wait is measured from then.
    """
    begins = {"runner": runner, "run": run, "attempt": 0, "start_by": None, "started_at": None}
    return {"updated_at": clock.now()} | begins


def job_tried_again(clock: Clock, failure: Failure, delay_seconds: float, runner: str, run: Any) -> Changes:
    """The row of a job of which another attempt follows.

    :param runner: the runner of the row during the failed attempt.
    :param run: the number of the next run, if the job moves to a pod.
    """
    following = runner_after(runner, failure.cause)
    if following != runner:
        return job_moved(clock, failure, following, run)
    return job_waits_again(clock, failure, delay_seconds)


def job_failed(clock: Clock, failure: Failure, retention_seconds: Any) -> Changes:
    """The row of a job that failed for good."""
    return {
        "state": JobState.FAILED,
        "status": -1,
        "cause": storable(failure.cause, CAUSE_LIMIT),
        "fingerprint": failure.fingerprint,
        "result_message": storable(failure.message, MESSAGE_LIMIT),
        "run_after": None,
        "finished_at": clock.now(),
        "updated_at": clock.now(),
        "expires_at": clock.after(retention_seconds),
    }


def job_unblocked(clock: Clock, run_after: Any, start_by: Any) -> Changes:
    """The row of a job once the jobs that it depends on have ended. Its start timeout begins now, or when it is due.

    :param run_after: the later one of its ``run_after`` and now, so that its wait is measured from then.
    :param start_by: the later one of its ``start_by`` and the start timeout from now.
    """
    return {
        "state": JobState.WAITING,
        "open_dependencies": 0,
        "run_after": run_after,
        "start_by": start_by,
        "updated_at": clock.now(),
    }


def unblocked_times(clock: FixedClock, job: JobRequest) -> tuple[datetime, datetime | None]:
    """The ``run_after`` and the ``start_by`` of a job that is unblocked, for :func:`job_unblocked`."""
    start_by = clock.after(job.options.start_timeout_seconds)
    later = start_by if start_by is None or job.start_by is None else max(start_by, job.start_by)
    return max(job.run_after or clock.now(), clock.now()), later


def job_released(clock: Clock, number: int, run_after: Any) -> Changes:
    """The row of a job after its claim was undone and its attempt was not started.

    :param run_after: when it had become due, unless that was at its dispatch or is not known.
    """
    changes = {"state": JobState.WAITING, "assigned": False, "attempt": number - 1, "updated_at": clock.now()}
    return changes | {"run_after": run_after} | ({"started_at": None} if number == 1 else {})


def job_retried(clock: Clock, run: Any, start_timeout_seconds: Any, open_dependencies: int = 0) -> Changes:
    """The row of a failed job at the start of its next run. Its wait is measured from now.

    :param open_dependencies: how many jobs it waits for.
    """
    return {
        "state": dispatched_state(open_dependencies),
        "open_dependencies": open_dependencies,
        "run": run,
        "attempt": 0,
        "status": 0,
        "assigned": False,
        "result_message": "",
        "cause": "",
        "fingerprint": "",
        "run_after": clock.now(),
        "start_by": clock.after(start_timeout_seconds),
        "cancel_requested_at": None,
        "suspended_at": None,
        "submitted_at": None,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "updated_at": clock.now(),
    }


def cancellation_requested(clock: Clock) -> Changes:
    """The row of a running job whose cancellation is requested. Its attempt reads that with its next heartbeat."""
    return {"cancel_requested_at": clock.now()}


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """The attempt that holds the claim on a job."""

    token: UUID
    number: int
    seconds_left: float
    """Seconds until its lease lapses; negative afterwards."""


def claim_refusal(
    job: JobRequest | None, uid: UUID, run: int, number: int, live: LiveAttempt | None, job_type: str = ""
) -> ClaimRefusal | None:
    """Why a job's attempt can't be claimed now, judging by its row and its running attempt; None if it can."""
    if job is None or job.uid != uid or job.executor is Executor.OTHERS or job_type not in ("", job.job_type):
        return NoRow()
    if job.state.final:
        return AlreadyFinal(job)
    if job.run != run or job.state is JobState.BLOCKED:
        return NotThisAttempt()
    if live is None:
        return None
    if live.number > number:
        return NotThisAttempt()
    return Taken(live.seconds_left) if live.seconds_left > 0 else None


def next_step(
    options: JobOptions, charged: Mapping[CauseClass, int], failure: Failure, uid: UUID, run: int, number: int
) -> TryAgain | GiveUp:
    """The decision of the retry policy after a failed attempt."""
    return after_failure(
        options.retry,
        charged,
        failure.cause,
        for_good=failure.for_good,
        retry_after_seconds=failure.retry_after_seconds,
        key=f"{uid}-{run}-{number}",
    )


def without_decision(failure: Failure) -> TryAgain:
    """The decision to record until the operator decides: the job waits, at least as long as the failure asked for."""
    return TryAgain(failure.retry_after_seconds or 0)


def charged(causes: Iterable[tuple[str, int]]) -> Mapping[CauseClass, int]:
    """Count failed attempts by class of cause, from counts by cause."""
    counts: dict[CauseClass, int] = {}
    for cause, count in causes:
        kind = cause_class(cause)
        if kind is not CauseClass.UNCHARGED:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def cancelled(by: str) -> Failure:
    """The failure of a waiting job that somebody cancelled."""
    return replace(CANCELLED, message=f"{by} cancelled the job.") if by else CANCELLED


def not_started(job: JobRequest, known: Collection[str] | None) -> Failure:
    """The failure of a job that was not started in time.

    :param known: the job types that the calling process knows; None if it does not have the application's code.
    """
    seconds = job.options.start_timeout_seconds  # None if another release wrote it in another form
    waited = "the job waited for longer than " + ("it may" if seconds is None else durations.seconds(seconds))
    if known is not None and not is_known(job.job_type, known):
        return Failure(Cause.UNKNOWN_JOB_TYPE, f"no worker that runs knows {job.job_type!r}: {waited}", for_good=True)
    return Failure(Cause.START_TIMEOUT, f"no worker had room for the job: {waited}", for_good=True)


def key_taken(job: JobRequest, holder: int | None) -> UniquenessConflict:
    """The error of a retry while another unfinished job has the unique key."""
    other = f"job {holder}" if holder is not None else "another job"
    return UniquenessConflict(
        f"job {job.id} can't be started again while {other} has its unique_key {job.unique_key!r}: "
        "wait for its end, or cancel it"
    )


def superseded() -> Superseded:
    """The error of a process that has lost its claim."""
    return Superseded(
        "another process holds this attempt's job now, or the job has ended: this attempt is not recorded"
    )
