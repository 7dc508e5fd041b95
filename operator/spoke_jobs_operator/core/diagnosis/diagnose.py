"""Determine the state of an attempt from its Job, its pods and their events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.advice import with_reason
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.contract.wait_reasons import WAITS, Wait, WaitReason
from spoke_jobs_operator.core.objects.api_objects import Job, Pod, Running, WarningEvent

from .attempt_state import Bounds, Ended, Pends, Runs, Unclear
from .obstacles import Obstacle, obstacle
from .pod_end import DEADLINE, KUBELET_SLACK, cause_of_disruption, end_of, lost_at
from .runtime_trouble import is_runtime_trouble
from .scheduler_message import FITS_NOWHERE

PROMPT = timedelta(seconds=10)
"""If a pod is created later than this after its Job, its start timeout counts from the pod's creation."""
LONGEST_OUTAGE = timedelta(hours=3)
"""An attempt whose image's registry does not answer ends after this time, since the registry's address may be wrong."""
NEW_LEADER = timedelta(seconds=60)
"""For this time, a new leader ends none of the attempts that it found at their start timeout. The API server may have
been away before, so the kubelets have to report first."""
DISRUPTED = "PodFailurePolicy"
"""The reason of a failed Job whose pod had the condition DisruptionTarget; see `build_job.DISRUPTIONS`."""
_CAUSES_BY_JOB_DELETION = {Cause.INTERRUPTED, Cause.KILLED, Cause.POD_DELETED}
"""The causes that a pod may show when its Job is deleted."""
LONGEST_WAIT = timedelta(hours=24)
"""An attempt that waits longer for room, for an admission webhook that is away, or for a lost node that alone fits its
pod, ends. Its start timeout does not count this time."""
_PATIENCE: dict[str, timedelta] = {
    WaitReason.REGISTRY_AWAY: LONGEST_OUTAGE,
    WaitReason.CLUSTER_FULL: LONGEST_WAIT,
    WaitReason.WEBHOOK_AWAY: LONGEST_WAIT,
}
"""The reasons whose time counts against no start timeout, and how long an attempt waits for their end."""
UNCOUNTED = frozenset({*_PATIENCE, WaitReason.QUOTA_EXCEEDED})
"""The reasons whose time counts against no start timeout. A wait for a quota has no end: somebody has set the quota."""
OBSTRUCTED = frozenset({*FITS_NOWHERE, Cause.POD_REJECTED})
"""Obstacles that may follow a wait that does not count. The start timeout then counts from when they appear."""


def diagnose(
    job: Job | None, pods: Sequence[Pod], events: Sequence[WarningEvent], bounds: Bounds, now: datetime, *, live: bool
) -> Ended | Runs | Pends | Unclear:
    """Determine the state of the attempt.

    :param live: whether Job and pods were just read live, so that a missing object does not exist.
    """
    if succeeded := next((end for end in map(end_of, pods) if end and not end.cause), None):
        return succeeded
    if job and job.complete:
        return Ended(cause="", exit_code=ExitCode.DONE)
    if job is None and not live:
        return Unclear()
    held_back = job is not None and job.suspended and not job.finished and not job.meta.deletion_at
    pod = max(pods, key=lambda item: item.meta.resource_version, default=None)
    if pod and (end := end_of(pod)):
        if held_back and end.cause in _CAUSES_BY_JOB_DELETION | {Cause.EVICTED, Cause.DRAINED}:
            return replace(end, cause=Cause.PREEMPTED, stop=True)
        if job is not None and job.failure_reason == DEADLINE and end.cause in _CAUSES_BY_JOB_DELETION:
            return replace(end, cause=Cause.TIMEOUT)
        job_deleted = (job is None or job.meta.deletion_at) and end.cause in _CAUSES_BY_JOB_DELETION
        return replace(end, cause=Cause.JOB_DELETED) if job_deleted else end
    if job is None:
        return Ended(cause=Cause.JOB_DELETED)
    if held_back:
        return _while_held_back(pods, bounds)
    if pod and pod.meta.deletion_at:
        return _while_deleted(pod, pod.meta.deletion_at, now, live=live)
    if job.failed or job.failing:
        return _of_failed_job(job, pod, bounds, now, live=live)
    if pod and isinstance(pod.container, Running):
        return _while_running(pod.container, bounds, now)
    return _while_pending(job, pod, events, bounds, now)


def _while_held_back(pods: Sequence[Pod], bounds: Bounds) -> Ended | Pends:
    """Determine the state of a suspended Job: it waits for Kueue's admission, or Kueue has preempted it."""
    if bounds.ran or any(isinstance(pod.container, Running) for pod in pods):
        return Ended(cause=Cause.PREEMPTED, stop=True)
    return Pends(WaitReason.QUEUED_BY_KUEUE, "", None)


def _while_deleted(pod: Pod, deletion_at: datetime, now: datetime, *, live: bool) -> Ended | Runs | Unclear:
    # The container may still exit within the grace period. Its exit code says more than the deletion does.
    lost = lost_at(pod, deletion_at)
    if now >= lost:
        if not live:  # after an outage the stream delivers old events first, and the pod may be gone
            return Unclear()
        # The node has had its grace period and has not reported. A deletion by force does not wait for the node: its
        # pod is only still here because the Job controller has not removed its finalizer yet.
        silent = pod.node and pod.meta.deletion_grace_seconds
        return Ended(cause=cause_of_disruption(pod) or (Cause.NODE_LOST if silent else Cause.POD_DELETED), stop=True)
    return Runs(stopping=True, check_at=lost)


def _of_failed_job(job: Job, pod: Pod | None, bounds: Bounds, now: datetime, *, live: bool) -> Ended | Runs | Unclear:
    if job.failure_reason == DEADLINE:
        started = bounds.ran or (pod is not None and isinstance(pod.container, Running))
        return Ended(cause=Cause.TIMEOUT if started else Cause.START_TIMEOUT, stop=True)
    if not live:  # the cache may lack the pod's last state
        return Unclear()
    if pod is None:
        # The pod's own state is lost. Of the disruptions, only those that delete the pod leave nothing but the Job.
        if job.failure_reason == DISRUPTED:
            return Ended(cause=Cause.DRAINED, message=job.failure_message, stop=not job.failed)
        return Ended(cause=Cause.POD_DELETED, stop=not job.failed)
    return Runs(stopping=True, check_at=now + KUBELET_SLACK)


def _while_running(container: Running, bounds: Bounds, now: datetime) -> Ended | Runs:
    if bounds.run is None or container.since is None:
        return Runs(stopping=False, check_at=None)
    # The pod's process itself ends the function `bounds.run` after the function's start. This later deadline is for a
    # process that fails to. It includes the time to import the application and to wait for its database.
    begun = max(container.since, bounds.assigned_at or container.since)
    deadline = begun + timedelta(seconds=bounds.start + bounds.run)
    if now >= deadline:
        return Ended(cause=Cause.TIMEOUT, stop=True)
    return Runs(stopping=False, check_at=deadline)


def _while_pending(
    job: Job, pod: Pod | None, events: Sequence[WarningEvent], bounds: Bounds, now: datetime
) -> Ended | Pends:
    found = obstacle(pod, events, now)
    text = wait_text.sentence(Wait(found.reason, object=found.object, since=found.since, detail=found.message))
    ended = Ended(cause=found.reason, message=text, stop=True, container=_container_named(pod, found))
    if found.hopeless:
        return ended
    if pod is None and found.reason == WaitReason.POD_PENDING and bounds.by_quota:
        found = Obstacle(WaitReason.QUOTA_EXCEEDED)  # Events are kept for an hour only, and some are never sent
    if found.reason == WaitReason.QUOTA_EXCEEDED:  # the start timeout counts from the pod's creation
        return Pends(found.reason, found.message, None, found.object, found.since)
    if job.resuming:  # the start timeout counts from the end of the suspension, and its time is not in the status yet
        return Pends(found.reason, found.message, None, found.object, found.since)
    deadline = _start_deadline(job, pod, found.reason, bounds, now)
    if now >= deadline:
        if found.reason == WaitReason.REGISTRY_AWAY:
            return replace(ended, cause=Cause.IMAGE_UNAVAILABLE)
        if found.reason == WaitReason.SANDBOX_FAILED and is_runtime_trouble(found.message):
            return replace(ended, cause=Cause.CONTAINER_RUNTIME_FAILED)
        if found.reason in WAITS:
            said = with_reason(found.reason, text) if text else ""
            return replace(ended, cause=Cause.START_TIMEOUT, message=said, reason=found.reason)
        return ended
    check_at = min(deadline, found.check_at or deadline)
    return Pends(found.reason, found.message, check_at, found.object, found.since, deadline)


def _start_deadline(job: Job, pod: Pod | None, reason: str, bounds: Bounds, now: datetime) -> datetime:
    """Return when the attempt must have started. The time for which its pod waits for room does not count."""
    begun = bounds.assigned_at or job.released_at or job.meta.created_at or now
    if pod and pod.meta.created_at and pod.meta.created_at - begun > PROMPT:  # an admission webhook may have been away
        begun = pod.meta.created_at
    patience = LONGEST_WAIT if bounds.node_lost and reason in FITS_NOWHERE else _PATIENCE.get(reason)
    if patience:
        return begun + max(patience, timedelta(seconds=bounds.start))
    if pod and pod.scheduled_at:
        begun = max(begun, pod.scheduled_at)
    if reason in OBSTRUCTED and bounds.obstructed_since:
        begun = max(begun, bounds.obstructed_since)
    deadline = begun + timedelta(seconds=bounds.start)
    if bounds.observed_since and begun < bounds.observed_since:
        return max(deadline, bounds.observed_since + NEW_LEADER)
    return deadline


def _container_named(pod: Pod | None, found: Obstacle) -> str:
    names = {item.name for item in pod.containers} if pod else set()
    return found.object if found.object in names else ""
