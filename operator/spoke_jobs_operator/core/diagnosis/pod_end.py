"""Determine how a pod ended, from its containers, its reason and its conditions."""

from __future__ import annotations

from datetime import datetime, timedelta

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.termination import DATABASE_REFUSED, ExitCode, TerminationMessage, decode
from spoke_jobs_operator.core.objects.api_objects import Container, ContainerKind, Pod, Running, Terminated

from .attempt_state import Ended
from .runtime_trouble import is_runtime_trouble, is_short_of_memory

KUBELET_SLACK = timedelta(seconds=5)
"""How long after its grace period a deleted pod counts as lost, if its kubelet has not reported its end."""
TAINT_SLACK = timedelta(seconds=15)
"""How long after the deletion request a pod counts as lost, if it is deleted because of a taint and its node does not
answer. Such a node will not report the pod's end, so the grace period is not awaited."""

_SIGNALS_OF_OTHERS = {129, 130, 137, 143}  # HUP, INT, KILL, TERM; any other signal means that the process crashed
CANNOT_RUN = {"StartError", "ContainerCannotRun", "RunContainerError"}
_BY_KUBELET = "TerminationByKubelet"
"""The reason of the condition DisruptionTarget for pressure, shutdown and preemption; `status.reason` says which."""
_SHUTDOWNS = {"Terminated", "NodeShutdown", "Shutdown", "Preempting"}
"""Values of `status.reason`: a node's graceful shutdown, as three releases name it, and a preemption by the kubelet."""
_REFUSED_BY_NODE = {
    "UnexpectedAdmissionError", "UnexpectedPredicateFailureType", "UnknownReason", "InvalidNodeInfo", "NodeAffinity",
    "NodeName", "NodePorts", "NodeUnschedulable", "TaintToleration", "TopologyAffinityError",
    "VolumeAttachmentLimitExceeded",
}  # fmt: skip
"""Values of `status.reason` with which a kubelet refuses a pod because of the node: it filled up after the scheduler
had chosen it, or it has just started, and its devices, labels or taints are not yet as they were. With the other
reasons, such as `SysctlForbidden` or `PodOSNotSupported`, every node of its kind refuses the pod."""
_OUT_OF = "OutOf"
"""The start of a refusal for lack of a resource: OutOfcpu, OutOfpods, OutOfexample.com/gpu."""
_PRESSURE = "Evicted"
_TAINTED = "DeletionByTaintManager"
_DRAINS = {"EvictionByEvictionAPI", "PreemptionByScheduler", _TAINTED}
_NODE_DELETED = "DeletionByPodGC"
_LOST_TRACK = {"Unknown", "ContainerStatusUnknown"}
"""The reasons of a container that had disappeared when the container runtime, or the kubelet, looked for it: the node
restarted."""
SAID_LIMIT = 300
"""The most characters that are shown of what a container or the kubelet said."""
_FOREIGN = "The container's termination message is not one of spoke-jobs."
_REFUSED = "The database runs, and refuses the user, the password or the database's name."
DEADLINE = "DeadlineExceeded"
"""The pod exceeded its own deadline, which is later than the operator's and works without an operator."""


def has_ended(pod: Pod, now: datetime) -> bool:
    """Whether no container of the pod runs: the pod has ended, or counts as lost with its node."""
    if pod.terminal or isinstance(pod.container, Terminated):
        return True
    return pod.meta.deletion_at is not None and now >= lost_at(pod, pod.meta.deletion_at)


def lost_at(pod: Pod, deletion_at: datetime) -> datetime:
    """Return when a pod that is being deleted counts as lost if its node does not report."""
    if pod.disruption == _TAINTED and pod.node_silent:
        requested_at = deletion_at - timedelta(seconds=pod.meta.deletion_grace_seconds)
        return min(requested_at + TAINT_SLACK, deletion_at + KUBELET_SLACK)
    return deletion_at + KUBELET_SLACK


def end_of(pod: Pod) -> Ended | None:
    """Return how the pod ended; None if it has not.

    The attempt has ended if the job's container has ended, whatever the other containers do.
    """
    if isinstance(pod.container, Terminated):
        return _from_container(pod.container, pod)
    if pod.phase == "Succeeded":
        return Ended(cause="", exit_code=ExitCode.DONE)
    if pod.phase != "Failed":
        return None
    if pod.reason == DEADLINE:
        return Ended(cause=Cause.TIMEOUT)
    said = _said_of_pod(pod)
    if from_outside := cause_of_disruption(pod):
        return Ended(cause=from_outside, message=said)
    failed = next((item for item in pod.containers if item.kind is ContainerKind.INIT and _has_failed(item)), None)
    return _from_init(failed, pod) if failed else Ended(cause=Cause.POD_FAILED, message=said)


def said_at_end(name: str, end: Terminated) -> str:
    """Describe how a container other than the job's has ended: its exit code and termination message."""
    reason = "" if end.reason in ("", "Error", "Completed") else f" ({end.reason})"
    message = " ".join(end.message.split())
    return f"container {name!r} exited with {end.exit_code}{reason}" + (f": {message[:SAID_LIMIT]}" if message else "")


def _said_of_pod(pod: Pod) -> str:
    return ": ".join(part for part in (pod.reason or pod.disruption, pod.message) if part)


def _has_failed(container: Container) -> bool:
    return isinstance(container.state, Terminated) and container.state.exit_code != 0


def _from_init(container: Container, pod: Pod) -> Ended:
    """Return the end of an attempt whose init container has failed, so that the job's container was never started."""
    state = container.state
    assert isinstance(state, Terminated)
    cause: str = _cause_of_no_start(state.message) if state.reason in CANNOT_RUN else Cause.INIT_FAILED
    if pod.meta.deletion_at and state.exit_code in _SIGNALS_OF_OTHERS:
        cause = Cause.POD_DELETED
    elif state.reason in _LOST_TRACK:
        cause = Cause.NODE_LOST
    return Ended(
        cause=cause, exit_code=state.exit_code, message=said_at_end(container.name, state), container=container.name
    )


def _from_container(container: Terminated, pod: Pod) -> Ended:
    code = container.exit_code
    if code == ExitCode.DONE:
        return Ended(cause="", exit_code=code)
    if container.reason == "OOMKilled":
        return Ended(cause=Cause.OUT_OF_MEMORY, exit_code=code, message=_of_limit(pod))
    if container.reason in CANNOT_RUN:
        return _not_started(container, pod)
    sent = decode(container.message)
    if code in (ExitCode.FAILED, ExitCode.FAILED_FOR_GOOD):
        return _from_report(container, sent)
    cause, error_type = (sent.cause, sent.error_type) if sent and _may_report(sent.cause) else ("", "")
    if code == ExitCode.HELD:
        paused = sent is not None and sent.cause == Cause.START_PAUSED
        return Ended(cause=Cause.START_PAUSED if paused else Cause.QUEUE_HELD, exit_code=code)
    if code == ExitCode.SUPERSEDED:
        return Ended(cause=Cause.SUPERSEDED, exit_code=code)
    from_outside = cause_of_disruption(pod) or (Cause.POD_DELETED if pod.meta.deletion_at else "")
    said = _said_of_pod(pod) if from_outside else ""
    if pod.reason == DEADLINE:
        return Ended(cause=Cause.TIMEOUT, exit_code=code)
    if code == ExitCode.INTERRUPTED:
        found = from_outside or cause or Cause.INTERRUPTED
        return Ended(cause=found, error_type=error_type, exit_code=code, message=said)
    if container.reason in _LOST_TRACK:
        return Ended(cause=from_outside or Cause.NODE_LOST, exit_code=code, message=said or container.message)
    if code in _SIGNALS_OF_OTHERS:
        return Ended(cause=from_outside or Cause.KILLED, exit_code=code, message=said)
    return Ended(cause=Cause.JOB_EXITED, exit_code=code)


def _not_started(container: Terminated, pod: Pod) -> Ended:
    """Return the end of an attempt whose container's process was never started."""
    cause, said = _cause_of_no_start(container.message), container.message
    if is_short_of_memory(container.message):
        # Without a limit, only the node can have been short of memory.
        cause = Cause.OUT_OF_MEMORY if pod.memory_limit else Cause.CONTAINER_RUNTIME_FAILED
        said = f"{_of_limit(pod)} {said}".lstrip()
    return Ended(cause=cause, exit_code=container.exit_code, message=said)


def _of_limit(pod: Pod) -> str:
    return f"The container's memory limit was {pod.memory_limit}." if pod.memory_limit else ""


def _cause_of_no_start(message: str) -> Cause:
    return Cause.CONTAINER_RUNTIME_FAILED if is_runtime_trouble(message) else Cause.CONTAINER_CANNOT_RUN


def _from_report(container: Terminated, sent: TerminationMessage | None) -> Ended:
    """Return the end of a failure that the job's process has reported; without a message, its code has ended it."""
    code = container.exit_code
    if sent is None:
        message = _FOREIGN if container.message else ""
        return Ended(Cause.JOB_ERROR, "", code, code == ExitCode.FAILED_FOR_GOOD, message=message)
    message = _REFUSED if sent.cause == Cause.DATABASE_UNREACHABLE and sent.error_type == DATABASE_REFUSED else ""
    cause = sent.cause or Cause.JOB_ERROR
    if not _may_report(cause):
        cause, message = Cause.JOB_ERROR, f"The job's process reported the cause {cause}, which it can't know."
    return Ended(
        cause,
        sent.error_type,
        code,
        code == ExitCode.FAILED_FOR_GOOD or sent.for_good,
        sent.retry_after_seconds,
        message,
        recorded=sent.recorded,
    )


def _may_report(name: str) -> bool:
    """Whether a pod's process may report the cause. A later release may report causes that this one doesn't know."""
    return name not in CAUSES or CAUSES[name].reported


def cause_of_disruption(pod: Pod) -> str:
    """Return the cause of an end that came from outside of the pod; empty if there is no sign of one."""
    lost = pod.disruption == _NODE_DELETED or (pod.disruption == _TAINTED and pod.node_silent)
    if lost or pod.reason == "NodeLost":
        return Cause.NODE_LOST
    if pod.disruption in _DRAINS or pod.reason in _SHUTDOWNS:
        return Cause.DRAINED
    if _is_refused_by_node(pod):
        return Cause.NODE_REFUSED
    return Cause.EVICTED if pod.disruption == _BY_KUBELET or pod.reason == _PRESSURE else ""


def _is_refused_by_node(pod: Pod) -> bool:
    """Whether the kubelet did not admit the pod. A kubelet that restarts admits its pods again, also those that ran."""
    if pod.reason == _PRESSURE:  # an eviction has the condition, or its containers have ended
        return not pod.disruption and not any(isinstance(item.state, Running | Terminated) for item in pod.containers)
    return pod.reason in _REFUSED_BY_NODE or pod.reason.startswith(_OUT_OF)
