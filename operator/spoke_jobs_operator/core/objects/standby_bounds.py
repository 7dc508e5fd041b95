"""How many standby pods a PodTemplate wants: its annotation `jobs.spoke.dev/standby`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spoke_jobs.contract.standby import ANNOTATION_STANDBY

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
