"""The resources that a PodTemplate lets its jobs ask for: annotations of the PodTemplate.

A job's own amounts come from whoever may create SpokeJobs. The PodTemplate is the platform's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from spoke_jobs.contract.custom_resources.spokejob import Resources
from spoke_jobs.contract.names import GROUP
from spoke_jobs.contract.quantities import in_bytes

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
