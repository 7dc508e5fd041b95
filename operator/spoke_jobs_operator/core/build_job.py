"""Build the Job of one attempt from the application's PodTemplate.

The pod is the template's pod, with the overrides that docs/how-to/podtemplates.md lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from spoke_jobs.contract import environment, names
from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.environment import Assignment
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs.contract.wait_reasons import Wait

from .api_objects import ANNOTATION_TEMPLATE, KUEUE_QUEUE, LABEL_OWNER, PodTemplate
from .memory_growth import grown

COMMAND = ("spoke-jobs", "run")
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
NODE_GONE_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
NODE_GONE_SECONDS = 30
BACKSTOP_SECONDS = 300
"""The operator ends a job that exceeds its timeout. If no operator runs, the Job's own deadline ends the job, this much
later. The deadline is not exact: Kubernetes counts it from the Job's creation, including the wait for a node."""


def is_template_name(name: str) -> bool:
    """Whether a PodTemplate can have this name. If not, a request for it is pointless."""
    return re.fullmatch(names.TEMPLATE_NAME, name) is not None


def check_template(spokejob: SpokeJob, template: PodTemplate | None) -> PodTemplate | Wait:
    """Return the template if a Job can be built from it; else what has to be fixed first."""
    name = spokejob.spec.pod_template
    if template is None:
        return Wait(Cause.TEMPLATE_MISSING, object=name)
    if not template.allowed:
        return Wait(Cause.TEMPLATE_NOT_ALLOWED, object=name)
    containers = _spec(template).get("containers")
    if not isinstance(containers, list) or not any(_is_ours(container) for container in containers):
        return Wait(Cause.TEMPLATE_INVALID, object=name)
    return template


def build_job(spokejob: SpokeJob, template: PodTemplate, attempt: int) -> dict[str, Any]:
    """Return the body of the attempt's batch/v1 Job. The template must have passed :func:`check_template`."""
    labels = {
        names.LABEL_MANAGED_BY: "spoke-operator",
        names.LABEL_SPOKEJOB: spokejob.name,
        names.LABEL_UID: str(spokejob.spec.uid),
        names.LABEL_REQUEST: str(spokejob.spec.request_id),
        names.LABEL_ATTEMPT: str(attempt),
        LABEL_OWNER: spokejob.uid,
    }
    job_spec: dict[str, Any] = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 0,  # a second pod of the same Job would be an uncounted attempt
        "template": _pod_template(spokejob, template, attempt, labels),
    }
    if KUEUE_QUEUE in template.kueue:
        job_spec["suspend"] = True  # its pod must not start before Kueue has seen the Job
    if spokejob.spec.timeout_seconds is not None:
        job_spec["activeDeadlineSeconds"] = (
            spokejob.spec.start_timeout_seconds + spokejob.spec.timeout_seconds + BACKSTOP_SECONDS
        )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(spokejob.name, attempt),
            "namespace": spokejob.namespace,
            "labels": {**template.kueue, **labels},
            "annotations": {ANNOTATION_TEMPLATE: template.version},
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": spokejob.name,
                    "uid": spokejob.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,  # true would require the right to update the SpokeJob's finalizers
                }
            ],
        },
        "spec": job_spec,
    }


def _pod_template(spokejob: SpokeJob, template: PodTemplate, attempt: int, labels: Mapping[str, str]) -> dict[str, Any]:
    metadata = template.template.get("metadata") or {}
    spec = deepcopy(dict(_spec(template)))
    spec["restartPolicy"] = "Never"
    spec.pop("activeDeadlineSeconds", None)  # the SpokeJob's timeouts apply instead
    spec.setdefault("automountServiceAccountToken", False)
    spec |= spokejob.spec.pod_fields()
    _restrict_pod(spec)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            _restrict_container(container)
    for container in spec["containers"]:
        if _is_ours(container):
            _take_over(container, spokejob, attempt)
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_missing_tolerations(spec.get("tolerations") or ())]
    return {
        "metadata": {
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {**(metadata.get("annotations") or {}), SAFE_TO_EVICT: "false"},
        },
        "spec": spec,
    }


def _spec(template: PodTemplate) -> Mapping[str, Any]:
    spec = template.template.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _is_ours(container: object) -> bool:
    return isinstance(container, Mapping) and container.get("name") == names.CONTAINER


def _take_over(container: dict[str, Any], spokejob: SpokeJob, attempt: int) -> None:
    assignment = Assignment(
        request_id=spokejob.spec.request_id, uid=spokejob.spec.uid, attempt=attempt, run=spokejob.spec.run
    )
    ours: list[dict[str, Any]] = [
        *({"name": name, "value": value} for name, value in assignment.to_environment().items()),
        {"name": environment.POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": environment.NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    taken = {variable["name"] for variable in ours}
    container["command"] = list(COMMAND)
    container.pop("args", None)
    if spokejob.spec.resources is not None:
        resources = container.setdefault("resources", {})
        for kind, amounts in spokejob.spec.resources.model_dump().items():
            resources[kind] = {**(resources.get(kind) or {}), **amounts}
    if times := spokejob.status.charged.get(CauseClass.OOM, 0):
        container["resources"] = grown(container.get("resources") or {}, spokejob.spec.retry, times)
    container["env"] = [item for item in container.get("env") or () if item.get("name") not in taken] + ours
    container["terminationMessagePath"] = "/dev/termination-log"
    container["terminationMessagePolicy"] = "File"  # the end of the log may hold values, and a SpokeJob must not


def _restrict_pod(spec: dict[str, Any]) -> None:
    context = spec.setdefault("securityContext", {})
    context.setdefault("runAsNonRoot", True)
    context.setdefault("seccompProfile", {"type": "RuntimeDefault"})


def _restrict_container(container: dict[str, Any]) -> None:
    context = container.setdefault("securityContext", {})
    context.setdefault("allowPrivilegeEscalation", False)
    context.setdefault("capabilities", {}).setdefault("drop", ["ALL"])


def _missing_tolerations(given: list[dict[str, Any]] | tuple[()]) -> list[dict[str, Any]]:
    # A toleration without a key tolerates every taint of its effect. Then add nothing: the template has decided.
    keys = {item.get("key") for item in given if item.get("effect") in (None, "", "NoExecute")}
    if None in keys or "" in keys:
        return []
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_GONE_SECONDS}
        for key in NODE_GONE_KEYS
        if key not in keys
    ]
