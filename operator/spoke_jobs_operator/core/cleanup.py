"""Decide when to delete the Jobs of ended attempts, and SpokeJobs after their time to live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.spokejob import LedgerState, Outcome, SpokeJob, SpokeJobStatus

from . import status
from .actions import Action, ApplyStatus, CheckAgain, Decision, DeleteJob, DeleteSpokeJob, Standing
from .api_objects import Job, Pod
from .diagnose import has_ended

SETTLE = timedelta(seconds=10)
"""How long after its attempt's end a Job may stay unfinished, for example with a sidecar. Then it is deleted."""
STOP_PATIENCE = timedelta(seconds=120)
"""How long the operator waits for a Job that is being deleted and has no pods to disappear."""
UNCONFIRMED_TTL = timedelta(days=7)
"""How long a SpokeJob stays if its end never reached the ledger, so that people can find out why."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended objects are kept for inspection."""

    job: timedelta = timedelta(seconds=60)
    """A Job, counted from its attempt's end."""


def after_the_end(
    spokejob: SpokeJob, jobs: Sequence[Job], pods: Sequence[Pod], now: datetime, retention: Retention
) -> Decision:
    """Correct a final SpokeJob's outcome if the ledger differs, then delete its Jobs, and later the SpokeJob."""
    current = spokejob.status
    corrected = _corrected(current, now)
    if corrected != current:
        return Decision(Standing.FINISHED, (ApplyStatus(corrected),))
    actions: list[Action] = list(of_ended(current, jobs, pods, now, retention))
    ttl = timedelta(seconds=spokejob.spec.ttl_seconds_after_finished)
    stays = ttl if current.ledger else max(ttl, UNCONFIRMED_TTL)
    expires_at = (current.finished_at or now) + stays
    if now >= expires_at:
        actions.append(DeleteSpokeJob())
    else:
        actions.append(CheckAgain((expires_at - now).total_seconds() + 0.01))
    return Decision(Standing.FINISHED, tuple(actions))


def of_ended(
    current: SpokeJobStatus, jobs: Sequence[Job], pods: Sequence[Pod], now: datetime, retention: Retention
) -> tuple[Action, ...]:
    """Delete the Jobs of ended attempts after their retention."""
    actions: list[Action] = []
    for job in jobs:
        if job.meta.deletion_at:
            continue
        over = is_over(job, pods, now)
        due = _ended_at(current, job, now) + (retention.job if over or _succeeded(current) else SETTLE)
        if now >= due:
            actions.append(
                DeleteJob(job.meta.key.name, job.meta.uid, str(job.meta.resource_version), wait_for_pods=not over)
            )
        else:
            actions.append(CheckAgain((due - now).total_seconds() + 0.01))
    return tuple(actions)


def until_nothing_runs(
    current: SpokeJobStatus, jobs: Sequence[Job], pods: Sequence[Pod], now: datetime
) -> float | None:
    """Return the seconds until the next check, or None if nothing of earlier attempts runs."""
    if any(not is_over(job, pods, now) for job in jobs):
        return 1.0
    # The garbage collector deletes the pod of a deleted Job a moment later. The pod then has its grace period.
    known = {job.attempt for job in jobs}
    for pod in pods:
        if pod.attempt in known or has_ended(pod, now):
            continue
        newest = current.attempts[-1].finished_at if current.attempts else None
        if pod.meta.deletion_at or (newest and now < newest + SETTLE):
            return 1.0
    return None


def is_over(job: Job, pods: Sequence[Pod], now: datetime) -> bool:
    """Whether no pod of the Job runs or will run.

    The pod of a deleted Job runs until the garbage collector deletes it, which can take minutes.
    """
    if job.finished:
        return True
    own = [pod for pod in pods if pod.attempt == job.attempt]
    if job.meta.deletion_at:
        return all(has_ended(pod, now) for pod in own) if own else now >= job.meta.deletion_at + STOP_PATIENCE
    return bool(own) and all(pod.terminal for pod in own)


def _corrected(current: SpokeJobStatus, now: datetime) -> SpokeJobStatus:
    if current.ledger is LedgerState.SUCCEEDED and current.outcome is not Outcome.SUCCEEDED:
        return status.finished(current, "", now)
    if current.ledger is LedgerState.FAILED and current.outcome is not Outcome.FAILED:
        done = bool(current.attempts) and current.attempts[-1].exit_code == 0
        cause = Cause.JOB_EXITED if done else Cause.SUPERSEDED  # JobExited: exit code 0 without a recorded success
        return status.finished(current, cause, now, "the ledger has recorded a failure")
    return current


def _ended_at(current: SpokeJobStatus, job: Job, now: datetime) -> datetime:
    record = next((item for item in current.attempts if item.number == job.attempt), None)
    if record and record.finished_at:
        return record.finished_at
    return current.finished_at or (job.meta.created_at or now)


def _succeeded(current: SpokeJobStatus) -> bool:
    return current.outcome is Outcome.SUCCEEDED
