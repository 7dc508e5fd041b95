"""Which changes by hand of a job's start its state allows, and what they write. Pure, and shared by both ledgers.

The functions ``why_not_...`` return why a change is refused and what to do, or an empty text if it is allowed.
"""

from __future__ import annotations

from datetime import datetime

from spoke_jobs.contract.executors import Executor
from spoke_jobs.errors import ChangeRefused, InvalidJobData
from spoke_jobs.job_options import OPTIONS
from spoke_jobs.ledger.columns.clock import FixedClock
from spoke_jobs.ledger.lifecycle.transitions import Changes, Clock, unblocked_times
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.shared.clean_text import is_storable, short_repr

REASON_LIMIT = 200
"""As of a pause."""


def refuse(problem: str) -> None:
    """Refuse a change for which there is a problem.

    :raises ChangeRefused: unless the text is empty.
    """
    if problem:
        raise ChangeRefused(problem)


def why_not_now(job: JobRequest, now: datetime) -> str:
    """Return why a job can't become due now. It can if it waits for its time, and its row says that time."""
    if problem := _why_not_at_all(job):
        return problem
    if job.state is JobState.RUNNING:
        return f"job {job.id} is running"
    if job.state is JobState.BLOCKED:
        return (
            f"job {job.id} is blocked until the jobs that it runs after have ended: `spoke-jobs show {job.id}` lists "
            "them"
        )
    if has_spokejob(job):
        return (
            f"job {job.id} has a SpokeJob, so the operator decides when its next attempt starts: `spoke-jobs why "
            f"{job.id}` says when. For a new run at once, `spoke-jobs cancel {job.id}`, then `spoke-jobs retry "
            f"{job.id}`"
        )
    if job.suspended_at is not None:
        return f"job {job.id} is suspended: `spoke-jobs resume {job.id}` first"
    if job.due_later(now) is None:
        return f"job {job.id} is due already: `spoke-jobs why {job.id}` says what it waits for"
    return ""


def due_now(clock: Clock, job: JobRequest) -> Changes:
    """The row of a waiting job that becomes due now. The start timeout of its first attempt begins now."""
    changes: Changes = {"run_after": clock.now(), "updated_at": clock.now()}
    if job.attempt <= 0 and job.start_by is not None and job.options.start_timeout_seconds is not None:
        changes["start_by"] = clock.after(job.options.start_timeout_seconds)
    return changes


def why_no_priority(job: JobRequest, priority: int) -> str:
    """Return why a job can't get this priority. It can while it waits or is blocked.

    :raises InvalidJobData: if no job can have the priority.
    """
    if problem := OPTIONS["priority"].check(priority):
        raise InvalidJobData(f"priority{problem}")
    if problem := _why_not_at_all(job):
        return problem
    if job.state is JobState.RUNNING:
        return f"job {job.id} is running: its priority decides only when it starts"
    return ""


def why_not_suspended(job: JobRequest) -> str:
    """Return why a job can't be suspended. It can until it has ended. A running attempt goes on."""
    return _why_not_at_all(job)


def why_not_resumed(job: JobRequest) -> str:
    """Return why a job can't be resumed. It can if it is suspended."""
    if problem := _why_not_at_all(job):
        return problem
    if job.suspended_at is not None:
        return ""
    by_kubectl = "; if `spec.suspend` of its SpokeJob is true, set that to false" if has_spokejob(job) else ""
    return f"job {job.id} is not suspended{' in the ledger' if by_kubectl else ''}{by_kubectl}"


def checked_reason(reason: str) -> str:
    """Return why a job is suspended, as an event keeps it.

    :raises InvalidJobData: if the text can't be stored.
    """
    given: object = reason
    if not isinstance(given, str) or len(given) > REASON_LIMIT or not is_storable(given):
        expected = f"a string of at most {REASON_LIMIT} characters without NUL"
        raise InvalidJobData(f"the reason is {short_repr(given)}, where {expected} is expected")
    return reason.strip()


def suspended(clock: Clock) -> Changes:
    """The row of a suspended job."""
    return {"suspended_at": clock.now()}


def resumed(clock: FixedClock, job: JobRequest) -> Changes:
    """The row of a job that is resumed. The wait of a waiting job, and the start timeout of its first attempt, begin
    now, or when it is due.
    """
    changes: Changes = {"suspended_at": None}
    if job.state is JobState.WAITING:
        changes["run_after"], start_by = unblocked_times(clock, job)
        changes["updated_at"] = clock.now()
        if job.attempt <= 0 and job.start_by is not None:
            changes["start_by"] = start_by
    return changes


def has_spokejob(job: JobRequest) -> bool:
    """Whether the operator starts the job's attempts, from a SpokeJob that may exist."""
    return job.executor is Executor.CLUSTER and (job.submitted_at is not None or job.attempt > 0)


def _why_not_at_all(job: JobRequest) -> str:
    """Return why nobody can change when a job starts: it has ended, or is other code's."""
    if job.state is JobState.FAILED:
        return f"job {job.id} has failed: `spoke-jobs retry {job.id}` starts it again"
    if job.state is JobState.SUCCEEDED:
        return f"job {job.id} has succeeded: to run it again, dispatch it again"
    if job.executor is Executor.OTHERS:
        return f"other code has taken job {job.id}, and decides when it starts"
    return ""
