"""Whether a PodTemplate can have standby pods, by a chain of checks.

A PodTemplate that can't still serves jobs: their attempts run in pods of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spoke_jobs_operator.core.objects.api_objects import KUEUE_QUEUE, PodTemplate
from spoke_jobs_operator.core.objects.standby_bounds import NO_STANDBY, StandbyBounds
from spoke_jobs_operator.core.templates.build_job import inherited
from spoke_jobs_operator.core.templates.template_checks import is_the_jobs, spec_of

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
