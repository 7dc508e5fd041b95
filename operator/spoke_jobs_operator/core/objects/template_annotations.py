"""Read the annotations with which a PodTemplate bounds its jobs, once for each version of the PodTemplate.

Whoever may change PodTemplates in one namespace must not be able to slow the operator down for the others. So an
annotation has a maximum length, and no decision reads it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, length_problem
from spoke_jobs.contract.custom_resources.spokejob import Resources
from spoke_jobs.contract.names import GROUP
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.standby import ANNOTATION_STANDBY

ANNOTATION_RESOURCES = f"{GROUP}/allowed-resources"
"""On a PodTemplate: the names of resources that a job may set, separated by commas."""
ANNOTATION_MIN = f"{GROUP}/min-resources"
ANNOTATION_MAX = f"{GROUP}/max-resources"
"""On a PodTemplate: the smallest and the largest amounts that a job may set, for example ``cpu=2,memory=4Gi``."""


class UnreadableCaps(ValueError):
    """An annotation that can't be read. Its text names the annotation and the entry."""


@dataclass(frozen=True, slots=True)
class ResourceCaps:
    """What a job may set in place of the PodTemplate's amounts."""

    names: frozenset[str] | None = None
    """None for all names."""
    smallest: Mapping[str, Decimal] = field(default_factory=dict)
    largest: Mapping[str, Decimal] = field(default_factory=dict)

    def allows(self, name: str) -> bool:
        """Whether a job may set the resource of this name."""
        return self.names is None or name in self.names


def read_caps(annotations: Mapping[str, str]) -> ResourceCaps:
    """Read the annotations of a PodTemplate.

    :raises UnreadableCaps: if one can't be read. Then no cap is known, so no job may use the PodTemplate.
    """
    names = annotations.get(ANNOTATION_RESOURCES)
    return ResourceCaps(
        names=None if names is None else frozenset(_entries(names)),
        smallest=_amounts(annotations, ANNOTATION_MIN),
        largest=_amounts(annotations, ANNOTATION_MAX),
    )


def violation(caps: ResourceCaps, resources: Resources | None) -> str:
    """Return the first of a job's amounts that the caps forbid, and why; empty if there is none."""
    asked = resources.model_dump().items() if resources is not None else ()
    for kind, amounts in asked:
        for name, amount in amounts.items():
            if wrong := _wrong(caps, name, amount):
                return f"{kind}.{name} {wrong}"
    return ""


def _wrong(caps: ResourceCaps, name: str, amount: str) -> str:
    if not caps.allows(name):
        return f"is not allowed (allowed: {', '.join(sorted(caps.names or ())) or 'none'})"
    smallest, largest = caps.smallest.get(name), caps.largest.get(name)
    if smallest is None and largest is None:
        return ""
    asked = in_bytes(amount)
    if asked is None:
        return f"{amount} is not a readable amount"
    if smallest is not None and asked < smallest:
        return f"{amount} is less than the minimum"
    if largest is not None and asked > largest:
        return f"{amount} is more than the maximum"
    return ""


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _amounts(annotations: Mapping[str, str], key: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for entry in _entries(annotations.get(key, "")):
        name, _, text = entry.partition("=")
        amount = in_bytes(text.strip())
        if not name.strip() or amount is None or name.strip() in found:
            raise UnreadableCaps(
                f"its annotation {key} has the entry {entry!r:.100}; write NAME=AMOUNT, each name once"
            )
        found[name.strip()] = amount
    return found


MOST = 500
"""The most standby pods of one PodTemplate."""
_FORM = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")


class UnreadableBounds(ValueError):
    """An annotation that can't be read. Its text names the annotation, its value, and what to write."""


@dataclass(frozen=True, slots=True)
class StandbyBounds:
    """The fewest and the most standby pods that wait for a job."""

    minimum: int = 0
    maximum: int = 0


NO_STANDBY = StandbyBounds()


def read_bounds(value: str | None) -> StandbyBounds:
    """Read the annotation; None stands for none.

    :raises UnreadableBounds: if it is not MIN-MAX, or MIN is over MAX.
    """
    if value is None:
        return NO_STANDBY
    found = _FORM.fullmatch(value.strip())
    if found is None:
        raise UnreadableBounds(_problem(value, "write MIN-MAX, two whole numbers, for example 1-5"))
    bounds = StandbyBounds(int(found[1]), int(found[2]))
    if bounds.minimum > bounds.maximum:
        raise UnreadableBounds(_problem(value, "MIN must not be over MAX"))
    if bounds.maximum > MOST:
        raise UnreadableBounds(_problem(value, f"MAX must be at most {MOST}"))
    return bounds


def _problem(value: str, what: str) -> str:
    return f"its annotation {ANNOTATION_STANDBY} is {value!r:.60}: {what}"


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
