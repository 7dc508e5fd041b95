"""Pods as the kubelet and the scheduler write them, for tests of what the operator reads from them."""

from __future__ import annotations

from typing import Any

from tests.unit.operator.core.objects import stamp

from spoke_jobs.contract.names import LABEL_ATTEMPT, LABEL_SPOKEJOB
from spoke_jobs_operator.core.objects.api_objects import LABEL_OWNER, Pod, WarningEvent
from spoke_jobs_operator.core.objects.read_objects import read_event, read_pod

Object = dict[str, Any]
WAITS: Object = {"waiting": {"reason": "PodInitializing"}}
CREATING: Object = {"waiting": {"reason": "ContainerCreating"}}


def runs(since: float = -60) -> Object:
    return {"running": {"startedAt": stamp(since)}}


def stuck(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "", message: str = "") -> Object:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "message": message,
            "startedAt": stamp(-30),
            "finishedAt": stamp(-20),
            "containerID": "containerd://1",
        }
    }


def container(name: str, state: Object, *, image: str = "app:1", last: Object | None = None, **fields: Any) -> Object:
    """A container's status. Fields that begin with `spec_` go to its specification."""
    return {"name": name, "state": state, "image": image, "lastState": last or {}, "restartCount": 0} | fields


def real_pod(
    *containers: Object,
    init: tuple[Object, ...] = (),
    sidecars: tuple[str, ...] = (),
    ephemeral: tuple[Object, ...] = (),
    phase: str = "Pending",
    conditions: tuple[Object, ...] = (),
    deleted: float | None = None,
    spec: Object | None = None,
    **status: Any,
) -> Pod:
    """A pod of attempt 1.

    :param sidecars: the names of the init containers that restart always.
    """
    metadata: Object = {
        "name": "sj-1-x",
        "namespace": "ns",
        "uid": "pod-uid",
        "resourceVersion": "7",
        "labels": {LABEL_SPOKEJOB: "sj", LABEL_ATTEMPT: "1", LABEL_OWNER: "sj-uid"},
    }
    if deleted is not None:
        metadata |= {"deletionTimestamp": stamp(deleted), "deletionGracePeriodSeconds": 30}
    inits = [
        {"name": item["name"], "image": item["image"]}
        | ({"restartPolicy": "Always"} if item["name"] in sidecars else {})
        for item in init
    ]
    return read_pod(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "node-1",
                "initContainers": inits,
                "containers": [{"name": item["name"], "image": item["image"]} for item in containers],
            }
            | (spec or {}),
            "status": {
                "phase": phase,
                "conditions": list(conditions),
                "initContainerStatuses": list(init),
                "containerStatuses": list(containers),
                "ephemeralContainerStatuses": list(ephemeral),
            }
            | status,
        }
    )


def unscheduled(message: str, reason: str = "Unschedulable") -> Pod:
    """A pod without a node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return real_pod(conditions=(condition,), spec={"nodeName": ""})


def warning(reason: str, message: str, kind: str = "Pod", sidecar: str = "") -> WarningEvent:
    """A warning Event about the pod, or about its native sidecar."""
    event = read_event(warning_body(reason, message, kind, f"spec.initContainers{{{sidecar}}}" if sidecar else ""))
    assert isinstance(event, WarningEvent)
    return event


def warning_body(reason: str, message: str, kind: str = "Pod", field_path: str = "") -> Object:
    """A warning Event, as the API server sends it."""
    about = {"kind": kind, "name": "sj-1-x", "namespace": "ns", "uid": "pod-uid"}
    return {
        "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "8"},
        "involvedObject": about | ({"fieldPath": field_path} if field_path else {}),
        "type": "Warning",
        "reason": reason,
        "message": message,
    }
