"""Objects as the API server sends them, for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from spoke_jobs.contract.names import LABEL_ATTEMPT, LABEL_SPOKEJOB
from spoke_jobs_operator.core.objects.api_objects import LABEL_OWNER, Job, Pod
from spoke_jobs_operator.core.objects.read_objects import read_job, read_pod

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stamp(seconds: float) -> str:
    """A time relative to NOW."""
    return (NOW + timedelta(seconds=seconds)).isoformat()


def job(*conditions: tuple[str, str], created: float = -10, deleted: float | None = None) -> Job:
    """A Job of attempt 1; conditions are pairs of type and reason."""
    metadata: dict[str, Any] = {
        "name": "sj-1",
        "namespace": "ns",
        "uid": "job-uid",
        "resourceVersion": "5",
        "creationTimestamp": stamp(created),
        "labels": {LABEL_SPOKEJOB: "sj", LABEL_ATTEMPT: "1"},
        "ownerReferences": [{"uid": "other"}, {"uid": "sj-uid", "controller": True}],
    }
    if deleted is not None:
        metadata["deletionTimestamp"] = stamp(deleted)
    items = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]
    return read_job({"metadata": metadata, "status": {"conditions": items}})


def pod(
    phase: str = "Running",
    *,
    state: dict[str, Any] | None = None,
    init: dict[str, Any] | None = None,
    deleted: float | None = None,
    grace: int = 30,
    disruption: str = "",
    reason: str = "",
    unschedulable: str = "",
    silent: bool = False,
    created: float | None = None,
    version: int = 7,
    spec: dict[str, Any] | None = None,
) -> Pod:
    """A pod of attempt 1; with ``silent``, the control plane has found that its node does not answer."""
    metadata: dict[str, Any] = {
        "name": f"sj-1-{version}",
        "namespace": "ns",
        "uid": f"pod-{version}",
        "resourceVersion": str(version),
        "labels": {LABEL_SPOKEJOB: "sj", LABEL_ATTEMPT: "1", LABEL_OWNER: "sj-uid"},
    }
    if created is not None:
        metadata["creationTimestamp"] = stamp(created)
    if deleted is not None:
        metadata |= {"deletionTimestamp": stamp(deleted), "deletionGracePeriodSeconds": grace}
    conditions = []
    if disruption:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disruption})
    if silent:
        conditions.append({"type": "ContainersReady", "status": "True"})
        conditions.append({"type": "Ready", "status": "False"})
    if unschedulable:
        conditions.append(
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}
        )
    status: dict[str, Any] = {"phase": phase, "reason": reason, "conditions": conditions}
    if state is not None:
        sidecar = {"name": "sidecar", "state": {"running": {}}}
        status["containerStatuses"] = [sidecar, {"name": "job", "state": state}]
    if init is not None:
        status["initContainerStatuses"] = [{"name": "init", "state": init}]
    return read_pod({"metadata": metadata, "spec": {"nodeName": "node-1"} | (spec or {}), "status": status})


def exited(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """A container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def running(since: float = -5) -> dict[str, Any]:
    """A container that runs."""
    return {"running": {"startedAt": stamp(since)}}


def waiting(reason: str) -> dict[str, Any]:
    """A container that waits."""
    return {"waiting": {"reason": reason, "message": f"says {reason}"}}
