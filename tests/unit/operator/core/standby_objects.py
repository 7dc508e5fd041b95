"""Standby pods and their Jobs, for tests of what decides about them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.operator.core.objects import NOW, stamp

from spoke_jobs_operator.core.objects.api_objects import Job, Pod
from spoke_jobs_operator.core.objects.read_objects import read_job, read_pod
from spoke_jobs_operator.core.standby.pool import Member

DIGEST = "d1"
RUNNING = {"running": {"startedAt": stamp(-5)}}
OURS = {"app.kubernetes.io/managed-by": "spoke-operator", "jobs.spoke.dev/standby": "true"}


def standby_job(
    name: str = "default-standby-1",
    *,
    spokejob: str = "",
    owner: str = "",
    attempt: int = 0,
    digest: str = DIGEST,
    age: timedelta = timedelta(seconds=10),
    conditions: tuple[tuple[str, str], ...] = (),
    deleted: bool = False,
) -> Job:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-of-{name}",
        "resourceVersion": "5",
        "creationTimestamp": (NOW - age).isoformat(),
        "labels": OURS | {"jobs.spoke.dev/spokejob": spokejob, "jobs.spoke.dev/attempt": str(attempt)},
        "annotations": {
            "jobs.spoke.dev/pod-template": "default",
            "jobs.spoke.dev/standby-digest": digest,
            "jobs.spoke.dev/standby-verifier": "v",
        },
        "ownerReferences": [{"uid": "template"}, *([{"uid": owner, "controller": True}] if owner else [])],
    }
    if deleted:
        metadata["deletionTimestamp"] = stamp(0)
    items = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]
    return read_job({"metadata": metadata, "status": {"conditions": items}})


def standby_pod(
    job: str = "default-standby-1",
    *,
    spokejob: str = "",
    phase: str = "Running",
    state: dict[str, Any] | None = None,
    deleted: bool = False,
    disruption: str = "",
    ip: str = "10.0.0.7",
) -> Pod:
    metadata: dict[str, Any] = {
        "name": f"{job}-x",
        "namespace": "ns",
        "uid": f"pod-of-{job}",
        "resourceVersion": "7",
        "labels": OURS | {"jobs.spoke.dev/spokejob": spokejob},
        "ownerReferences": [{"uid": f"uid-of-{job}", "controller": True}],
    }
    if deleted:
        metadata |= {"deletionTimestamp": stamp(30), "deletionGracePeriodSeconds": 30}
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": disruption}] if disruption else []
    status = {
        "phase": phase,
        "podIP": ip,
        "conditions": conditions,
        "containerStatuses": [{"name": "job", "state": RUNNING if state is None else state}],
    }
    return read_pod({"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status})


def member(name: str = "default-standby-1", *, ready: bool = True, reserved: bool = False, **of_job: Any) -> Member:
    """A standby pod that has run since its Job was created."""
    job = standby_job(name, **of_job)
    assert job.meta.created_at is not None
    state = {"running": {"startedAt": job.meta.created_at.isoformat()}}
    return Member(job, standby_pod(name, state=state), ready=ready, reserved=reserved)
