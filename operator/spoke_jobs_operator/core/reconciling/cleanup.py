"""Decide when to delete the Jobs of ended attempts, and SpokeJobs after their time to live."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, LedgerState, Outcome, SpokeJob, SpokeJobStatus
from spoke_jobs_operator.core.diagnosis.pod_end import has_ended
from spoke_jobs_operator.core.objects.api_objects import Job, Pod

from . import status
from .actions import Action, ApplyStatus, CheckAgain, Decision, DeleteJob, DeleteSpokeJob, KeptJob, Standing

SETTLE = timedelta(seconds=10)
"""How long after its attempt's end an unfinished Job is deleted. A sidecar may keep such a Job running."""
STOP_PATIENCE = timedelta(seconds=120)
"""How long after its deletion timestamp a Job without pods counts as over, even if it still exists."""
READ_BY_SYNC = timedelta(seconds=30)
"""How long after its end the SpokeJob of an earlier run stays at least, so that sync can read its pods' output."""
UNCONFIRMED_TTL = timedelta(days=7)
"""How long a SpokeJob stays if its end never reached the ledger, so that people can find out why."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended objects are kept for inspection."""

    job: timedelta = timedelta(seconds=60)
    """How long a Job is kept after the end of its attempt."""
    failed_job: timedelta = timedelta(hours=1)
    """How long the Job of a failed attempt is kept, so that people can read the pod's output and describe the pod."""
    failed_jobs: int = 50
    """The most Jobs of failed attempts that are kept in a namespace; the oldest are deleted first."""

    def of_job(self, cause: str, *, complete: bool) -> timedelta:
        """Return how long a Job is kept after its pod has ended.

        :param cause: how its attempt ended; empty for a success.
        """
        return self.of_failed if is_failure(cause) and not complete else self.job

    @property
    def of_failed(self) -> timedelta:
        """How long the Job of a failed attempt is kept."""
        return max(self.job, self.failed_job)


def is_failure(cause: str) -> bool:
    """Whether the end of an attempt is worth looking at: not a success, and not a request to be run again."""
    return bool(cause) and cause not in _NO_FAILURE


_NO_FAILURE = {Cause.QUEUE_HELD, Cause.START_PAUSED, Cause.RETRY_LATER}


def after_the_end(
    spokejob: SpokeJob,
    jobs: Sequence[Job],
    pods: Sequence[Pod],
    now: datetime,
    retention: Retention,
    surplus: Collection[str] = (),
    *,
    followed: bool = False,
) -> Decision:
    """Correct a final SpokeJob's outcome if the ledger differs, then delete its Jobs, and later the SpokeJob.

    :param followed: whether the SpokeJob of the job's next run exists. Then this one is deleted once sync has had time
        to read the output of its pods, so that listings show each job once. The ledger keeps its attempts.
    """
    current = spokejob.status
    later: tuple[Action, ...] = ()
    if followed and all(is_over(job, pods, now) for job in jobs):
        read_at = (current.finished_at or now) + READ_BY_SYNC
        if now >= read_at:
            return Decision(Standing.FINISHED, (DeleteSpokeJob(),))
        later = (CheckAgain.at(read_at, now),)
    corrected = _corrected(current, spokejob.spec.request_id, now)
    if corrected != current:
        return Decision(Standing.FINISHED, (ApplyStatus(corrected),))
    actions: list[Action] = [*later, *of_ended(current, jobs, pods, now, retention, surplus)]
    ttl = timedelta(seconds=spokejob.spec.ttl_seconds_after_finished)
    stays = ttl if current.ledger else max(ttl, UNCONFIRMED_TTL)
    expires_at = (current.finished_at or now) + stays
    if now >= expires_at:
        actions.append(DeleteSpokeJob())
    else:
        actions.append(CheckAgain((expires_at - now).total_seconds() + 0.01))
    return Decision(Standing.FINISHED, tuple(actions))


def of_ended(
    current: SpokeJobStatus,
    jobs: Sequence[Job],
    pods: Sequence[Pod],
    now: datetime,
    retention: Retention,
    surplus: Collection[str] = (),
) -> tuple[Action, ...]:
    """Delete the Jobs of ended attempts after their retention.

    If a container of a failed attempt's pod still runs, for example a sidecar, the Job is deleted soon: this stops the
    container.

    :param surplus: the uids of kept Jobs that have to go, because too many are kept in the namespace.
    """
    actions: list[Action] = []
    for job in jobs:
        if job.meta.deletion_at:
            continue
        over = is_over(job, pods, now)
        due = _ended_at(current, job, now) + _stays(current, job, retention, over=over)
        if job.meta.uid in surplus:  # sync reads the pods' output meanwhile
            due = min(due, _ended_at(current, job, now) + retention.job)
        if now >= due:
            actions.append(DeleteJob.of(job, wait_for_pods=not over))
        else:
            actions.append(CheckAgain((due - now).total_seconds() + 0.01))
    return tuple(actions)


def kept_jobs(
    current: SpokeJobStatus, jobs: Sequence[Job], pods: Sequence[Pod], now: datetime, retention: Retention
) -> tuple[KeptJob, ...]:
    """Return the Jobs of failed attempts that are kept for people to look at."""
    return tuple(
        KeptJob(job.meta.uid, _ended_at(current, job, now))
        for job in jobs
        if not job.meta.deletion_at
        and is_over(job, pods, now)
        and _stays(current, job, retention, over=True) > retention.job
    )


def until_nothing_runs(
    current: SpokeJobStatus, jobs: Sequence[Job], pods: Sequence[Pod], now: datetime
) -> float | None:
    """Return the seconds until the next check, or None if nothing of earlier attempts runs."""
    if any(not is_over(job, pods, now) for job in jobs):
        return 1.0
    # A pod can outlive its Job: the garbage collector deletes it later, and then it may run for its grace period. Wait
    # for a pod that is being deleted. Wait for any other such pod until SETTLE after the last attempt's end.
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


def _corrected(current: SpokeJobStatus, job_id: int, now: datetime) -> SpokeJobStatus:
    if current.ledger is LedgerState.SUCCEEDED and current.outcome is not Outcome.SUCCEEDED:
        return status.finished(current, "", now)
    if current.ledger is LedgerState.FAILED and current.outcome is not Outcome.FAILED:
        done = bool(current.attempts) and current.attempts[-1].exit_code == 0
        cause = Cause.JOB_EXITED if done else Cause.SUPERSEDED  # JobExited: exit code 0 without a recorded success
        return status.finished(current, cause, now, "the ledger has recorded a failure", job_id=job_id)
    return current


def _ended_at(current: SpokeJobStatus, job: Job, now: datetime) -> datetime:
    record = _record(current, job)
    if record and record.finished_at:
        return record.finished_at
    return current.finished_at or (job.meta.created_at or now)


def _stays(current: SpokeJobStatus, job: Job, retention: Retention, *, over: bool) -> timedelta:
    """Return how long after its attempt's end a Job stays.

    :param over: whether no pod of the Job runs.
    """
    if over:
        return retention.of_job(_cause_of(current, job), complete=job.complete)
    return retention.job if current.outcome is Outcome.SUCCEEDED else SETTLE


def _cause_of(current: SpokeJobStatus, job: Job) -> str:
    record = _record(current, job)
    return record.cause if record else current.cause


def _record(current: SpokeJobStatus, job: Job) -> AttemptStatus | None:
    return next((item for item in current.attempts if item.number == job.attempt), None)
