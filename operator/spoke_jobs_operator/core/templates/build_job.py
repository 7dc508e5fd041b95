"""Build the Job of one attempt from the application's PodTemplate.

The pod is the template's pod, with the overrides that docs/how-to/podtemplates.md lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from decimal import Decimal
from typing import Any

from spoke_jobs.contract import environment, labels, names
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import Retry, SpokeJob
from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.quantities import in_bytes, in_mebibytes
from spoke_jobs.contract.trace_context import is_traceparent
from spoke_jobs_operator.core.limits.limits import UNLIMITED, NamespaceLimits
from spoke_jobs_operator.core.objects.api_objects import (
    ANNOTATION_TEMPLATE,
    ANNOTATION_TEMPLATE_NAME,
    ANNOTATION_TIMEOUT,
    KUEUE_QUEUE,
    LABEL_OWNER,
    PodTemplate,
)
from spoke_jobs_operator.core.objects.read_objects import ONE_POD
from spoke_jobs_operator.core.objects.template_annotations import ResourceCaps

from .template_checks import is_the_jobs, spec_of

COMMAND = ("spoke-jobs", "run")
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
NODE_GONE_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
NODE_GONE_SECONDS = 30
BACKSTOP_SECONDS = 300
"""The pod's process ends a function that exceeds its timeout. If it fails to, the operator ends the process. If both
fail, the kubelet ends the pod this much later. The kubelet counts from the pod's start on its node, so that the wait
for room, a quota or an admission webhook shortens no run."""

DISRUPTIONS: Mapping[str, Any] = {
    "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
}
"""The Job records that its pod was disrupted. The pod may be gone before an operator sees it, for example because the
operator was drained from the same node."""

BOOKKEEPING = (
    f"{names.GROUP}/",
    "kubectl.kubernetes.io/",
    "helm.sh/",
    "meta.helm.sh/",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "config.kubernetes.io/",
    "internal.config.kubernetes.io/",
    "kapp.k14s.io/",
    "objectset.rio.cattle.io/",
)
"""Prefixes of labels and annotations that tools keep on the objects that they install. A Job does not get them, or the
tool might take it for one of its own objects, and delete it."""


def build_job(
    spokejob: SpokeJob, template: PodTemplate, attempt: int, limits: NamespaceLimits = UNLIMITED
) -> dict[str, Any]:
    """Return the body of the attempt's batch/v1 Job. The template must have passed :mod:`.template_checks`."""
    timeout = limits.timeout_of(spokejob.spec.timeout_seconds)
    annotations = {} if timeout == spokejob.spec.timeout_seconds else {ANNOTATION_TIMEOUT: str(timeout)}
    # The images are pulled within one start timeout, and the function starts within another.
    deadline = None if timeout is None else 2 * spokejob.spec.start_timeout_seconds + timeout + BACKSTOP_SECONDS
    body = job_of_template(
        template,
        names.job_name(spokejob.name, attempt),
        attempt_labels(spokejob, template, attempt),
        owner_reference(spokejob),
        attempt_variables(spokejob, attempt, timeout),
        annotations=annotations,
        deadline=deadline,
    )
    for container in body["spec"]["template"]["spec"]["containers"]:
        if is_the_jobs(container):
            _give_resources(container, spokejob, template.rules.caps)
    return body


def owner_reference(spokejob: SpokeJob) -> dict[str, Any]:
    """Return the reference to the SpokeJob that owns and controls a Job."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.SPOKEJOB.kind,
        "name": spokejob.name,
        "uid": spokejob.uid,
        "controller": True,
        "blockOwnerDeletion": False,  # true would require the right to update the SpokeJob's finalizers
    }


def job_of_template(
    template: PodTemplate,
    name: str,
    ours: Mapping[str, str],
    owner: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    annotations: Mapping[str, str],
    deadline: int | None = None,
    safe_to_evict: bool = False,
) -> dict[str, Any]:
    """Return the body of a Job from a PodTemplate.

    :param ours: the labels of Job and pod that nobody else can set.
    :param variables: the variables of the job's container that nobody else can set.
    :param annotations: further annotations of the Job.
    :param deadline: when the kubelet ends the pod, in seconds after its start.
    :param safe_to_evict: whether a cluster autoscaler may evict the pod to remove its node.
    """
    pods = template.template.get("metadata") or {}
    job_labels = {**labels.DEFAULT_LABELS, **inherited(template.labels), **inherited(pods.get("labels")), **ours}
    job_annotations = {**inherited(template.annotations), **inherited(pods.get("annotations"))}
    job_spec: dict[str, Any] = {
        **ONE_POD,
        "podFailurePolicy": deepcopy(dict(DISRUPTIONS)),
        "template": _pod_template(template, ours, variables, deadline, safe_to_evict=safe_to_evict),
    }
    if KUEUE_QUEUE in job_labels:
        job_spec["suspend"] = True  # its pod must not start before Kueue has seen the Job
    made_from = {ANNOTATION_TEMPLATE: template.version, ANNOTATION_TEMPLATE_NAME: template.meta.key.name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": template.meta.key.namespace,
            "labels": job_labels,
            "annotations": {**job_annotations, **made_from, **annotations},
            "ownerReferences": [dict(owner)],
        },
        "spec": job_spec,
    }


def _pod_template(
    template: PodTemplate,
    ours: Mapping[str, str],
    variables: Mapping[str, str],
    deadline: int | None,
    *,
    safe_to_evict: bool,
) -> dict[str, Any]:
    metadata = template.template.get("metadata") or {}
    spec = deepcopy(dict(spec_of(template)))
    spec["restartPolicy"] = "Never"
    spec.pop("activeDeadlineSeconds", None)  # the SpokeJob's timeouts apply instead
    if deadline is not None:
        spec["activeDeadlineSeconds"] = deadline
    spec.setdefault("automountServiceAccountToken", False)
    _restrict_pod(spec)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            _restrict_container(container)
    for container in spec["containers"]:
        if is_the_jobs(container):
            _take_over(container, variables)
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_missing_tolerations(spec.get("tolerations") or ())]
    return {
        "metadata": {
            "labels": {**labels.DEFAULT_LABELS, **_without_reserved(metadata.get("labels")), **ours},
            "annotations": {**(metadata.get("annotations") or {}), SAFE_TO_EVICT: "true" if safe_to_evict else "false"},
        },
        "spec": spec,
    }


def attempt_labels(spokejob: SpokeJob, template: PodTemplate, attempt: int) -> dict[str, str]:
    """Return the labels of an attempt's Job and its pod that say whose they are."""
    return _copied_labels(spokejob, template) | own_labels(spokejob, attempt)


def attempt_variables(spokejob: SpokeJob, attempt: int, timeout: int | None) -> dict[str, str]:
    """Return the variables that identify an attempt.

    :param timeout: how long the attempt may run, by the SpokeJob or a SpokeLimit.
    """
    assignment = PodAssignment(
        request_id=spokejob.spec.request_id,
        uid=spokejob.spec.uid,
        attempt=attempt,
        run=spokejob.spec.run,
        start_timeout_seconds=spokejob.spec.start_timeout_seconds,
        timeout_seconds=timeout if timeout != spokejob.spec.timeout_seconds else None,
        job_type=spokejob.spec.job_type,
    )
    trace = spokejob.spec.traceparent
    # Whoever may create SpokeJobs chose the text.
    return assignment.to_environment() | ({environment.TRACEPARENT: trace} if is_traceparent(trace) else {})


def own_labels(spokejob: SpokeJob, attempt: int) -> dict[str, str]:
    """Return the labels of a Job and its pod that nobody else can set."""
    spec = spokejob.spec
    return {
        names.LABEL_MANAGED_BY: names.MANAGER_OPERATOR,
        names.LABEL_SPOKEJOB: spokejob.name,
        names.LABEL_UID: str(spec.uid),
        names.LABEL_REQUEST: str(spec.request_id),
        names.LABEL_ATTEMPT: str(attempt),
        LABEL_OWNER: spokejob.uid,
        **labels.job_labels(spec.job_type, spec.queue, spec.organization),
    }


def _copied_labels(spokejob: SpokeJob, template: PodTemplate) -> dict[str, str]:
    """Return the SpokeJob's labels that the template lets through.

    Labels may give a pod rights (network policies, exceptions from admission policies). So the PodTemplate decides, and
    not whoever may create SpokeJobs.
    """
    allowed = template.rules.copied_labels
    return {key: value for key, value in spokejob.labels.items() if key in allowed}


def inherited(given: Mapping[str, str] | None) -> dict[str, str]:
    """Return the template's labels or annotations that a Job gets."""
    return {key: value for key, value in (given or {}).items() if not key.startswith(BOOKKEEPING)}


def _without_reserved(given: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (given or {}).items() if not labels.is_reserved(key)}


def _take_over(container: dict[str, Any], variables: Mapping[str, str]) -> None:
    ours: list[dict[str, Any]] = [
        # Kubernetes replaces $$ by $, and $(NAME) in a value by another variable, such as a password.
        *({"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()),
        {"name": environment.POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": environment.NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    # A template's own SPOKE_STANDBY would let the pod wait for an attempt that it has already.
    taken = {environment.STANDBY, environment.STANDBY_SECONDS, *(variable["name"] for variable in ours)}
    container["command"] = list(COMMAND)
    container.pop("args", None)
    container["env"] = [item for item in container.get("env") or () if item.get("name") not in taken] + ours
    container["terminationMessagePath"] = "/dev/termination-log"
    # FallbackToLogsOnError could copy the end of the log, and with it payload values, to the pod's status and the
    # SpokeJob.
    container["terminationMessagePolicy"] = "File"


def _give_resources(container: dict[str, Any], spokejob: SpokeJob, caps: ResourceCaps) -> None:
    if spokejob.spec.resources is not None:
        resources = container.setdefault("resources", {})
        for kind, amounts in spokejob.spec.resources.model_dump().items():
            resources[kind] = {**(resources.get(kind) or {}), **amounts}
    elif spokejob.spec.auto_requests:
        container["resources"] = with_requests(container.get("resources") or {}, spokejob.spec.auto_requests, caps)
    times, measured = spokejob.status.charged.get(CauseClass.OOM, 0), spokejob.spec.measured_memory_bytes
    if not caps.allows("memory"):
        measured = None  # whoever creates the SpokeJob gives it
    if times or measured:
        given, most = container.get("resources") or {}, caps.largest.get("memory")
        container["resources"] = grown(given, spokejob.spec.retry, times, most, measured)


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


DEFAULT_BOUND = 4
"""The maximum of a SpokeJob that declares none, as a multiple of the first attempt's memory, or of what was measured
before that attempt."""


def grown(
    resources: Mapping[str, Any],
    retry: Retry,
    times: int,
    cap: Decimal | None = None,
    measured: int | None = None,
) -> dict[str, Any]:
    """Return a container's resources with its memory request and limit multiplied by the factor, ``times`` times.

    If an attempt outside of a pod ran out of memory, what it had counts like the amount of a first attempt: the limit
    is at least that much, multiplied once more than the request.

    An amount stays unchanged if its form is not supported, or if it already exceeds the maximum.

    :param cap: the PodTemplate's maximum, in bytes, whatever the job's own maximum.
    :param measured: how many bytes an attempt outside of a pod had. It does not count if the factor is 1.
    """
    factor = Decimal(str(retry.memory_factor))
    seen = Decimal(measured or 0) if factor > 1 else Decimal(0)
    result = {name: dict(amounts) for name, amounts in resources.items() if isinstance(amounts, Mapping)}
    for kind, amounts in result.items():
        first = in_bytes(str(amounts.get("memory", "")))
        if first is None:
            continue
        most = in_bytes(retry.memory_max or "") or max(first, seen) * DEFAULT_BOUND
        most = most if cap is None else min(most, cap)
        wanted = max(first, seen * factor if kind == "limits" else seen) * factor**times
        amount = in_mebibytes(min(wanted, most))
        if (in_bytes(amount) or 0) > first:  # rounding down may make it smaller than the first amount
            amounts["memory"] = amount
    return {**resources, **result}


_MEBI = 2**20


def with_requests(resources: Mapping[str, Any], requests: Mapping[str, str], caps: ResourceCaps) -> dict[str, Any]:
    """Return a container's resources with these requests. A limit that is below its request is raised to it.

    An amount applies only if the template has a maximum for it: then the template lets jobs choose.
    """
    result = {name: dict(amounts) for name, amounts in resources.items() if isinstance(amounts, Mapping)}
    for name, asked in requests.items():
        wanted, most = in_bytes(asked), caps.largest.get(name)
        if wanted is None or most is None or not caps.allows(name):
            continue
        bounded = min(max(wanted, caps.smallest.get(name, Decimal(0))), most)
        amount = asked if bounded == wanted else _quantity(name, bounded)
        result.setdefault("requests", {})[name] = amount
        limit = in_bytes(str(result.get("limits", {}).get(name, "")))
        if limit is not None and limit < bounded:
            result["limits"][name] = amount
    return {**resources, **result}


def _quantity(name: str, amount: Decimal) -> str:
    if name != "memory":
        return f"{int(amount * 1000)}m"
    return in_mebibytes(amount) if amount % _MEBI == 0 else str(int(amount))
