"""Determine the state of an attempt from its Job, its pods and their events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.termination import ExitCode, decode
from spoke_jobs.contract.wait_reasons import WaitReason

from .api_objects import FailedCreate, FailedMount, Job, Pod, Running, Terminated, Waiting

KUBELET_SLACK = timedelta(seconds=5)
"""A pod that is being deleted counts as lost this long after its grace period, since its kubelet does not report."""
TAINT_SLACK = timedelta(seconds=15)
"""If the pod is deleted because its node is unreachable, it counts as lost this long after the deletion was requested.
The node is known not to answer, so waiting for the grace period would be pointless."""

_SIGNALS_OF_OTHERS = {129, 130, 137, 143}  # HUP, INT, KILL, TERM; any other signal means that the process crashed
_CANNOT_RUN = {"StartError", "ContainerCannotRun", "RunContainerError"}
_EVICTIONS = {"EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"}
_TAINTED = "DeletionByTaintManager"
_LOST = {_TAINTED, "DeletionByPodGC"}
_IMAGE_REASONS = {
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed", "InvalidImageName",
}  # fmt: skip
_WAITING_CAUSES = {
    **dict.fromkeys(_IMAGE_REASONS, Cause.IMAGE_UNAVAILABLE),
    "CreateContainerConfigError": Cause.CONTAINER_CONFIG_ERROR,
    "CreateContainerError": Cause.CONTAINER_CANNOT_RUN,
    **dict.fromkeys(_CANNOT_RUN, Cause.CONTAINER_CANNOT_RUN),
}
_CAUSES_BY_JOB_DELETION = {Cause.INTERRUPTED, Cause.KILLED, Cause.POD_DELETED}
"""The causes that a pod may show when its Job is deleted."""
_HOPELESS = {"InvalidImageName"}
_DEADLINE = "DeadlineExceeded"
"""The Job exceeded its own deadline, which is later than the operator's and works without an operator."""

STOPPING = "Stopping"
Event = FailedCreate | FailedMount


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt has ended, or has to be ended (``stop``)."""

    cause: str
    """Empty after a success; else the name of a cause."""
    error_type: str = ""
    exit_code: int | None = None
    for_good: bool = False
    """Whether the attempt reported that a retry can't succeed."""
    retry_after_seconds: float | None = None
    """The delay that the attempt asked for before the next one."""
    message: str = ""
    stop: bool = False
    """Whether a pod may still run or start, so that the Job has to be deleted first."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The container runs."""

    stopping: bool
    """Whether the pod is stopping; how it ends is not known yet."""
    check_at: datetime | None


@dataclass(frozen=True, slots=True)
class Pends:
    """The container doesn't run yet."""

    reason: str
    """A Cause for an obstacle that may be fixed; else a WaitReason."""
    message: str
    check_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unclear:
    """The cached objects are incomplete or contradict each other: read them live."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the attempt may take, in seconds."""

    start: float
    run: float | None
    ran: bool = False
    """Whether its container has been observed running."""


def diagnose(
    job: Job | None, pods: Sequence[Pod], events: Sequence[Event], bounds: Bounds, now: datetime, *, live: bool
) -> Ended | Runs | Pends | Unclear:
    """Determine the state of the attempt.

    :param live: whether Job and pods were just read live, so that a missing object does not exist.
    """
    if succeeded := next((end for end in map(_end_of, pods) if end and not end.cause), None):
        return succeeded
    if job and job.complete:
        return Ended(cause="", exit_code=ExitCode.DONE)
    if job is None and not live:
        return Unclear()
    held_back = job is not None and job.suspended and not job.finished and not job.meta.deletion_at
    pod = max(pods, key=lambda item: item.meta.resource_version, default=None)
    if pod and (end := _end_of(pod)):
        if held_back and end.cause in _CAUSES_BY_JOB_DELETION | {Cause.EVICTED}:
            return replace(end, cause=Cause.PREEMPTED, stop=True)
        if job is not None and job.failure_reason == _DEADLINE and end.cause in _CAUSES_BY_JOB_DELETION:
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
    """Kueue holds a Job back by suspending it, and preempts it by suspending it again after it ran."""
    if bounds.ran or any(isinstance(pod.container, Running) for pod in pods):
        return Ended(cause=Cause.PREEMPTED, stop=True)
    return Pends(WaitReason.QUEUED_BY_KUEUE, "", None)


def has_ended(pod: Pod, now: datetime) -> bool:
    """Whether no container of the pod runs: the pod has ended, or counts as lost with its node."""
    if pod.terminal or isinstance(pod.container, Terminated):
        return True
    return pod.meta.deletion_at is not None and now >= lost_at(pod, pod.meta.deletion_at)


def lost_at(pod: Pod, deletion_at: datetime) -> datetime:
    """Return when a pod that is being deleted counts as lost if its node does not report."""
    if pod.disruption == _TAINTED:
        requested_at = deletion_at - timedelta(seconds=pod.meta.deletion_grace_seconds)
        return min(requested_at + TAINT_SLACK, deletion_at + KUBELET_SLACK)
    return deletion_at + KUBELET_SLACK


def _end_of(pod: Pod) -> Ended | None:
    """Return how the pod ended; None if it has not."""
    if isinstance(pod.container, Terminated):
        return _from_container(pod.container, pod)
    if pod.phase == "Succeeded":
        return Ended(cause="", exit_code=ExitCode.DONE)
    if pod.phase != "Failed":
        return None
    if pod.reason == _DEADLINE:
        return Ended(cause=Cause.TIMEOUT)
    return Ended(cause=_cause_of_disruption(pod) or Cause.POD_FAILED, message=pod.reason)


def _from_container(container: Terminated, pod: Pod) -> Ended:
    code = container.exit_code
    if code == ExitCode.DONE:
        return Ended(cause="", exit_code=code)
    if container.reason == "OOMKilled":
        return Ended(cause=Cause.OUT_OF_MEMORY, exit_code=code)
    if container.reason in _CANNOT_RUN:
        return Ended(cause=Cause.CONTAINER_CANNOT_RUN, exit_code=code, message=container.message)
    sent = decode(container.message)
    cause, error_type = (sent.cause[:40], sent.error_type) if sent else ("", "")
    if code in (ExitCode.FAILED, ExitCode.FAILED_FOR_GOOD):
        for_good = code == ExitCode.FAILED_FOR_GOOD or bool(sent and sent.for_good)
        after = sent.retry_after_seconds if sent else None
        return Ended(cause or Cause.JOB_ERROR, error_type, code, for_good=for_good, retry_after_seconds=after)
    if code == ExitCode.HELD:
        return Ended(cause=Cause.QUEUE_HELD, exit_code=code)
    if code == ExitCode.SUPERSEDED:
        return Ended(cause=Cause.SUPERSEDED, exit_code=code)
    from_outside = _cause_of_disruption(pod) or (Cause.POD_DELETED if pod.meta.deletion_at else "")
    if code == ExitCode.INTERRUPTED:
        return Ended(cause=from_outside or cause or Cause.INTERRUPTED, error_type=error_type, exit_code=code)
    if container.reason == "ContainerStatusUnknown":
        return Ended(cause=from_outside or Cause.POD_FAILED, exit_code=code)
    if code in _SIGNALS_OF_OTHERS:
        return Ended(cause=from_outside or Cause.KILLED, exit_code=code)
    return Ended(cause=Cause.JOB_EXITED, exit_code=code)


def _cause_of_disruption(pod: Pod) -> str:
    if pod.disruption in _LOST or pod.reason == "NodeLost":
        return Cause.NODE_LOST
    if pod.disruption in _EVICTIONS or pod.reason in ("Evicted", "Preempting", "Terminated", "NodeShutdown"):
        return Cause.EVICTED
    return ""


def _while_deleted(pod: Pod, deletion_at: datetime, now: datetime, *, live: bool) -> Ended | Runs | Unclear:
    # The container may still exit within the grace period. Its exit code says more than the deletion does.
    lost = lost_at(pod, deletion_at)
    if now >= lost:
        if not live:  # after an outage the stream delivers old events first, and the pod may be gone
            return Unclear()
        return Ended(cause=_cause_of_disruption(pod) or (Cause.NODE_LOST if pod.node else Cause.POD_DELETED), stop=True)
    return Runs(stopping=True, check_at=lost)


def _of_failed_job(job: Job, pod: Pod | None, bounds: Bounds, now: datetime, *, live: bool) -> Ended | Runs | Unclear:
    if job.failure_reason == _DEADLINE:
        started = bounds.ran or (pod is not None and isinstance(pod.container, Running))
        return Ended(cause=Cause.TIMEOUT if started else Cause.START_TIMEOUT, stop=True)
    if not live:  # the cache may lack the pod's last state
        return Unclear()
    if pod is None:
        return Ended(cause=Cause.POD_DELETED, stop=not job.failed)
    return Runs(stopping=True, check_at=now + KUBELET_SLACK)


def _while_running(container: Running, bounds: Bounds, now: datetime) -> Ended | Runs:
    if bounds.run is None or container.since is None:
        return Runs(stopping=False, check_at=None)
    deadline = container.since + timedelta(seconds=bounds.run)
    if now >= deadline:
        return Ended(cause=Cause.TIMEOUT, stop=True)
    return Runs(stopping=False, check_at=deadline)


def _while_pending(job: Job, pod: Pod | None, events: Sequence[Event], bounds: Bounds, now: datetime) -> Ended | Pends:
    reason, message = _obstacle(pod, events)
    if pod and isinstance(pod.container, Waiting) and pod.container.reason in _HOPELESS:
        return Ended(cause=reason, message=message, stop=True)
    if job.resuming:  # its start timeout counts from the end of the suspension, whose time is not in the status yet
        return Pends(reason=reason, message=message, check_at=None)
    deadline = (job.released_at or job.meta.created_at or now) + timedelta(seconds=bounds.start)
    if now >= deadline:
        cause = Cause.START_TIMEOUT if reason in (WaitReason.POD_PENDING, WaitReason.UNSCHEDULABLE) else reason
        return Ended(cause=cause, message=message, stop=True)
    return Pends(reason=reason, message=message, check_at=deadline)


def _obstacle(pod: Pod | None, events: Sequence[Event]) -> tuple[str, str]:
    newest = max(events, key=lambda item: item.meta.resource_version, default=None)
    if pod is None:
        return (
            (Cause.POD_REJECTED, newest.message) if isinstance(newest, FailedCreate) else (WaitReason.POD_PENDING, "")
        )
    for state in (pod.init_problem, pod.container):
        if isinstance(state, Waiting) and state.reason in _WAITING_CAUSES:
            return _WAITING_CAUSES[state.reason], state.message
    if pod.unschedulable:
        return WaitReason.UNSCHEDULABLE, pod.unschedulable
    if isinstance(newest, FailedMount) and newest.pod_uid == pod.meta.uid and not pod.mounted:
        return Cause.CONTAINER_CONFIG_ERROR, newest.message
    return WaitReason.POD_PENDING, ""
