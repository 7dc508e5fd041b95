"""What the dashboard reads of a namespace. Frozen; this module does not import the Kubernetes client."""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.cluster.check_results import TemplateCheck
from spoke_jobs.contract import names
from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES
from spoke_jobs.contract.operator_state import Publication
from spoke_jobs.shared.object_fields import Body, items, mapping, text


@dataclass(frozen=True, slots=True)
class TemplateView:
    """A PodTemplate."""

    name: str
    check: TemplateCheck
    """Whether jobs can use it."""
    image: str = ""
    """Of the container that runs the job; empty if there is none."""
    types: str | None = None
    """The types of jobs that it is for, as its annotation lists them; None if it is for all."""
    requests: tuple[tuple[str, str], ...] = ()
    """What that container requests, as in ``("memory", "1Gi")``, by resource."""


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """What was read. Anything may be missing: the account may lack access, or the object does not exist."""

    namespace: str = ""
    publication: Publication | None = None
    """The operator's state; None if it has published none, or it can't be read."""
    templates: tuple[TemplateView, ...] = ()
    """By name."""
    more_templates: bool = False
    """Whether there are more than were read."""
    problem: str = ""
    """Why the cluster could not be read."""
    state_problem: str = ""
    """Why the operator's state could not be read."""
    templates_problem: str = ""
    """Why the PodTemplates could not be read."""
    is_configured: bool = True
    """Whether a namespace is configured, or the process is in a pod. If not, the installation may have no cluster."""


def template_view(body: Body) -> TemplateView:
    """Read a PodTemplate. What its containers get from Secrets and their environment is left out."""
    metadata = mapping(body, "metadata")
    containers = items(mapping(mapping(body, "template"), "spec"), "containers")
    container = next((each for each in containers if text(each, "name") == names.CONTAINER), {})
    requested = mapping(mapping(container, "resources"), "requests")
    annotations = mapping(metadata, "annotations")
    types = text(annotations, ANNOTATION_TYPES) if ANNOTATION_TYPES in annotations else None
    requests = tuple((name, str(requested[name])) for name in sorted(requested))
    return TemplateView(text(metadata, "name"), TemplateCheck.of(body), text(container, "image"), types, requests)
