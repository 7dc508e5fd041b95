"""Decide what to do about a row and its SpokeJob. Pure.

Level-triggered: a decision depends only on the current states of the two. Lost events, repeated events and restarts do
not change the result. If row and SpokeJob agree, there is no action.

The two are not read at the same moment. Decisions are safe nevertheless, because the row is read first and each write
checks again: a write to the ledger checks the row's state, a creation the name, a status update the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome, SpokeJobSpec
from spoke_jobs.contract.failed_decisions import message_of
from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.ledger.claims.eligibility import may_launch
from spoke_jobs.model import Failure, JobState, Progress
from spoke_jobs.sync.sync_model import (
    Action,
    AttemptView,
    Cancel,
    ChangeStart,
    ConfirmGone,
    EndAttempt,
    FailJob,
    Launch,
    Mirror,
    RecordSubmitted,
    Row,
    SpokeJobView,
)

_MESSAGE_LIMIT = 200
"""The longest progress message that a SpokeJob shows."""
START_TIMEOUT_SECONDS: int = SpokeJobSpec.model_fields["start_timeout_seconds"].default
"""Of a row that sets none."""
LONGEST_START_TIMEOUT_SECONDS = 604_800
"""The longest that a SpokeJob may have."""
_LEDGER = {JobState.SUCCEEDED: LedgerState.SUCCEEDED, JobState.FAILED: LedgerState.FAILED}


def compare(
    rows: Iterable[Row], spokejobs: Mapping[str, SpokeJobView], now: datetime, patience: timedelta = timedelta(0)
) -> list[Action]:
    """Decide on all rows.

    :param spokejobs: all SpokeJobs by name, read after the rows. A SpokeJob that is missing here no longer exists.
    :param now: the time by the database's clock, like the rows' times.
    :param patience: the age from which a row is launched by sync; until then it is left to the dispatching process.
    """
    return [action for row in rows for action in decide(row, spokejobs.get(row.name), now, patience)]


def decide(
    row: Row, seen: SpokeJobView | None, now: datetime, patience: timedelta = timedelta(0)
) -> tuple[Action, ...]:
    """Decide on one row and its SpokeJob, or the lack of one."""
    if seen is not None and not seen.is_of(row):
        return _name_is_anothers(row)
    if seen is None:
        return _without_spokejob(row, now, patience)
    if row.job.state.final:
        return _mirror(row, seen)
    submitted = (RecordSubmitted(row),) if row.job.submitted_at is None else ()
    return (*submitted, *(_ends(row, seen) or (*_cancel(row, seen), *_start(row, seen), *_mirror(row, seen))))


def _name_is_anothers(row: Row) -> tuple[Action, ...]:
    if row.job.state.final:
        return ()
    # If the row had a SpokeJob, that one is gone, and somebody else created this one with the same name.
    return (ConfirmGone(row),) if row.begun else (FailJob(row, failure(Cause.NAME_TAKEN)),)


def _without_spokejob(row: Row, now: datetime, patience: timedelta) -> tuple[Action, ...]:
    if row.job.state.final or row.job.state is JobState.BLOCKED:
        return ()
    if row.begun:
        return (ConfirmGone(row),)
    return (Launch(row),) if may_launch(row.job, now, patience.total_seconds()) else ()


def _ends(row: Row, seen: SpokeJobView) -> tuple[Action, ...]:
    """Record an end that the cluster reports and the row lacks."""
    if seen.outcome is Outcome.FAILED:
        return (FailJob(row, failure(seen.cause or Cause.POD_FAILED, said=_said(seen))),)
    if seen.outcome is Outcome.SUCCEEDED:
        return (FailJob(row, _success_without_record(seen)),)
    end = _end_of(row.live, seen) if row.live is not None else None
    return (EndAttempt(row, row.live, end),) if row.live is not None and end is not None else ()


def _cancel(row: Row, seen: SpokeJobView) -> tuple[Action, ...]:
    """Pass a cancellation on to the operator: the pod itself may hang, or not exist yet."""
    return (Cancel(row, seen),) if row.job.cancel_requested_at is not None and not seen.cancel else ()


def _start(row: Row, seen: SpokeJobView) -> tuple[Action, ...]:
    """Pass on a changed priority and a suspension. The row decides about the priority, whoever has changed it.

    A SpokeJob that people have suspended with kubectl stays so.
    """
    priority, suspended = row.job.priority, row.job.suspended_at is not None
    # Other code may have written a priority that no SpokeJob can have.
    wanted = priority if priority != seen.priority and abs(priority) <= PRIORITY_LIMIT else None
    suspend = None
    if suspended and not seen.suspend:
        suspend = True
    elif not suspended and seen.suspended_by_sync:
        suspend = False  # also if people have resumed it meanwhile: what they suspend later would count as sync's
    return () if wanted is None and suspend is None else (ChangeStart(row, seen, wanted, suspend),)


def _end_of(number: int, seen: SpokeJobView) -> Failure | None:
    """Return how the attempt ended on the cluster; None while it may still run."""
    record = next((item for item in seen.attempts if item.number == number), None)
    if record is not None and record.ended:
        # An attempt without a cause succeeded. The outcome will say so, and is handled then.
        return failure(record.cause, record.error_type, record.message) if record.cause else None
    if seen.attempt > number:  # the operator has started a later attempt
        return failure(Cause.WORKER_LOST)
    return None


def _success_without_record(seen: SpokeJobView) -> Failure:
    """Fail a job whose pod exited with 0, although the job recorded no success before that."""
    if seen.ledger is LedgerState.SUCCEEDED:
        text = "the ledger once held this job's success and has lost it: was the database restored from a backup?"
    else:
        text = "the job's process ended with exit code 0 and no success is recorded: did it call os._exit(0)?"
    return Failure(Cause.JOB_EXITED, text)


def _mirror(row: Row, seen: SpokeJobView) -> tuple[Action, ...]:
    progress = _progress(row, seen)
    ledger = _LEDGER.get(row.job.state, seen.ledger)  # once shown, it stays
    if (progress, ledger) == (seen.progress, seen.ledger):
        return ()
    return (Mirror(seen, progress, ledger),)


def _progress(row: Row, seen: SpokeJobView) -> Progress | None:
    job = row.job
    if job.state is JobState.SUCCEEDED:
        return Progress(100, job.result_message[:_MESSAGE_LIMIT])
    if job.state is not JobState.RUNNING:
        # The row's message says why the last attempt failed. It may hold payload values, so it stays in the ledger.
        return seen.progress
    progress = Progress(min(max(job.status, 0), 100), job.result_message[:_MESSAGE_LIMIT])
    return None if seen.progress is None and progress == Progress(0, "") else progress


def failed_attempts(seen: SpokeJobView) -> Iterator[AttemptView]:
    """Return the attempts that have failed or are being stopped, and whose output is worth keeping."""
    return (item for item in seen.attempts if item.cause and item.cause not in _NO_FAILURES)


_NO_FAILURES = {Cause.QUEUE_HELD, Cause.START_PAUSED, Cause.RETRY_LATER}


def _said(seen: SpokeJobView) -> str:
    """Return what Kubernetes said about the SpokeJob's end: about its last attempt, or else about the SpokeJob."""
    last = seen.attempts[-1] if seen.attempts else None
    return (last.message if last and last.cause == seen.cause else "") or seen.message


def undiagnosable(row: Row, error: Exception) -> tuple[Action, ...]:
    """End a job about which nothing can be decided. Its attempt ends with it, which releases the queue's lock."""
    return () if row.job.state.final else (FailJob(row, Failure(Cause.UNDIAGNOSABLE, message_of(error))),)


def type_not_allowed(row: Row, now: datetime) -> tuple[FailJob, ...]:
    """End a row whose type may not use its PodTemplate, once its start timeout is over; before that, do nothing."""
    job = row.job
    due = [moment for moment in (job.created_at, job.updated_at, job.run_after) if moment and moment <= now]
    timeout = min(job.options.start_timeout_seconds or START_TIMEOUT_SECONDS, LONGEST_START_TIMEOUT_SECONDS)
    if due and now < max(due) + timedelta(seconds=timeout):
        return ()
    template, job_type = job.options.pod_template, job.job_type
    text = f"PodTemplate {template!r} is not for jobs of the type {job_type!r}"
    return (FailJob(row, failure(Cause.TYPE_NOT_ALLOWED, said=text)),)


def failure(cause: str, error_type: str = "", said: str = "") -> Failure:
    """Make a failure from a cause that the cluster reports.

    :param said: what Kubernetes said about the failure; if empty, the text is the cause's meaning.
    """
    known = CAUSES.get(cause)
    return Failure(cause, said or (known.meaning if known else ""), error_type)
