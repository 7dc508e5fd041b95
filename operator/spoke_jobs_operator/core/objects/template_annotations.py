"""Read the annotations with which a PodTemplate bounds its jobs, once for each version of the PodTemplate.

Whoever may change PodTemplates in one namespace must not be able to slow the operator down for the others. So an
annotation has a maximum length, and no decision reads it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, length_problem
from spoke_jobs.contract.names import GROUP
from spoke_jobs.contract.standby import ANNOTATION_STANDBY

from .resource_caps import ANNOTATION_MAX, ANNOTATION_MIN, ANNOTATION_RESOURCES, ResourceCaps, UnreadableCaps, read_caps
from .standby_bounds import NO_STANDBY, StandbyBounds, UnreadableBounds, read_bounds

ANNOTATION_COPIED_LABELS = f"{GROUP}/copied-labels"
"""On a PodTemplate: the keys, separated by commas, of the SpokeJobs' labels that Jobs and pods also get."""
_READ = (ANNOTATION_TYPES, ANNOTATION_RESOURCES, ANNOTATION_MIN, ANNOTATION_MAX, ANNOTATION_COPIED_LABELS)


@dataclass(frozen=True, slots=True)
class TemplateRules:
    """What a PodTemplate's annotations allow."""

    problem: str = ""
    """Why the annotations can't be read; empty if they can. While there is a problem, no job may use the PodTemplate,
    and the other fields are empty."""
    caps: ResourceCaps = field(default_factory=ResourceCaps)
    copied_labels: frozenset[str] = frozenset()
    standby: StandbyBounds = NO_STANDBY
    """How many standby pods the PodTemplate wants."""
    standby_problem: str = ""
    """Why its standby pods can't be kept, if it wants some; empty if they can. Its jobs run in pods of their own."""
    given: Mapping[str, str] = field(default_factory=dict)
    """The annotations that were read."""


def read_rules(annotations: Mapping[str, str]) -> TemplateRules:
    """Read a PodTemplate's annotations."""
    given = {key: annotations[key] for key in _READ if key in annotations}
    if problem := length_problem(given, *_READ):
        return TemplateRules(problem)
    try:
        caps = read_caps(given)
    except UnreadableCaps as error:
        return TemplateRules(str(error))
    copied = {key.strip() for key in given.get(ANNOTATION_COPIED_LABELS, "").split(",")}
    try:
        standby, problem = read_bounds(annotations.get(ANNOTATION_STANDBY)), ""
    except UnreadableBounds as error:
        standby, problem = NO_STANDBY, str(error)
    return TemplateRules(
        caps=caps, copied_labels=frozenset(copied), standby=standby, standby_problem=problem, given=given
    )
