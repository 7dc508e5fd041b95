"""Build the Job of a standby pod from a PodTemplate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from spoke_jobs.contract import environment, names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.standby import ANNOTATION_DIGEST, ANNOTATION_VERIFIER, LABEL_STANDBY
from spoke_jobs_operator.core.objects.api_objects import KUEUE_QUEUE, STANDBY_POOL, PodTemplate
from spoke_jobs_operator.core.objects.template_annotations import NO_STANDBY, StandbyBounds
from spoke_jobs_operator.core.templates.build_job import inherited, job_of_template
from spoke_jobs_operator.core.templates.template_checks import is_the_jobs, spec_of

_NAME_LIMIT = 40


def standby_name(template: PodTemplate, nonce: str) -> str:
    """Return the name of a standby pod's Job.

    :param nonce: 12 to 16 characters that no other Job has had: the pod's secret is derived from the name.
    """
    return f"{names.dns_label(template.meta.key.name, _NAME_LIMIT)}-standby-{nonce}"


def build_standby_job(template: PodTemplate, name: str, verifier: str, seconds: int) -> dict[str, Any]:
    """Return the body of the Job. Its pod waits for an attempt.

    :param seconds: how long the pod waits at most. The operator replaces it earlier.
    """
    body = _body(template, name, verifier, seconds)
    body["metadata"]["annotations"][ANNOTATION_DIGEST] = digest_of(template, seconds)
    return body


def digest_of(template: PodTemplate, seconds: int) -> str:
    """Return a hash of what a standby pod is made from now. A pod with another one is replaced.

    It covers the labels and annotations of the PodTemplate, which its generation does not count, and what this release
    of the operator makes of them.
    """
    text = json.dumps(_body(template, "", "", seconds), sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _body(template: PodTemplate, name: str, verifier: str, seconds: int) -> dict[str, Any]:
    # The owner lets the garbage collector delete the Job with the PodTemplate. It controls nothing.
    owner = {
        "apiVersion": Kind.TEMPLATE.api_version,
        "kind": Kind.TEMPLATE.kind,
        "name": template.meta.key.name,
        "uid": template.meta.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    ours = {
        names.LABEL_MANAGED_BY: names.MANAGER_OPERATOR,
        names.LABEL_SPOKEJOB: STANDBY_POOL,
        LABEL_STANDBY: "true",
    }
    variables = {environment.STANDBY: verifier, environment.STANDBY_SECONDS: str(seconds)}
    annotations = {ANNOTATION_VERIFIER: verifier}
    return job_of_template(template, name, ours, owner, variables, annotations=annotations, safe_to_evict=True)


SHARED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "hostPath", "image", "nfs", "projected", "secret"}
)
"""The kinds of volumes that any number of pods can have at the same time."""


def bounds_of(template: PodTemplate | None) -> StandbyBounds:
    """Return how many standby pods a PodTemplate gets."""
    if template is None or problem_of(template):
        return NO_STANDBY
    return template.rules.standby


def problem_of(template: PodTemplate) -> str:
    """Return why a PodTemplate that wants standby pods gets none; empty if it gets them, or wants none."""
    if template.rules.standby_problem:
        return template.rules.standby_problem
    if template.rules.standby.maximum == 0:
        return ""
    return next((problem for check in CHECKS if (problem := check(template))), "")


def _is_unusable(template: PodTemplate) -> str:
    if not template.allowed or template.rules.problem:
        return template.rules.problem or "no job may use it: it lacks the label jobs.spoke.dev/template"
    containers = _containers(template)
    return "" if any(map(is_the_jobs, containers)) else "it has no container named job"


def _waits_for_kueue(template: PodTemplate) -> str:
    pods = template.template.get("metadata")
    labels = {**inherited(template.labels), **inherited(pods.get("labels") if isinstance(pods, Mapping) else None)}
    return (
        f"its label {KUEUE_QUEUE} lets Kueue admit each job, and a standby pod has none"
        if KUEUE_QUEUE in labels
        else ""
    )


def _has_volume_of_one_pod(template: PodTemplate) -> str:
    for volume in _mappings(spec_of(template).get("volumes")):
        kinds = {key for key in volume if key != "name"}
        if not kinds <= SHARED_VOLUMES:
            kind = min(kinds - SHARED_VOLUMES)
            return (
                f"its volume {str(volume.get('name'))!r:.60} is a {kind:.40}, which one pod alone may be able to "
                "mount: a pod that waits would keep it from the others"
            )
    return ""


def _has_port_of_node(template: PodTemplate) -> str:
    if spec_of(template).get("hostNetwork"):
        return "its pods use their node's network, where two of them can't have the same port"
    ports = (port for container in _containers(template) for port in _mappings(container.get("ports")))
    if any(port.get("hostPort") for port in ports):
        return "its pods use a port of their node, which one pod alone can have"
    return ""


CHECKS = (_is_unusable, _waits_for_kueue, _has_volume_of_one_pod, _has_port_of_node)


def _containers(template: PodTemplate) -> list[Mapping[str, Any]]:
    spec = spec_of(template)
    return [*_mappings(spec.get("containers")), *_mappings(spec.get("initContainers"))]


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())
