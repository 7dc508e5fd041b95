"""Where a worker's search for work begins: pure.

Jobs are claimed by priority, then by age. What stands at the head of that order may be of no use to anybody: jobs of
held queues, or entries of jobs long done that the database can't remove while some transaction is open. Searching from
the head then costs more with every claim. A worker that finds the head slow searches from where it last found work,
and from the head only as often as a tenth of its time allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

Place = tuple[int, int]
"""A job's place in the order: its priority negated, then its id."""

_SLOWER = 2.0
_SLOWER_SECONDS = 0.002
_SHARE = 10.0
_LONGEST_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the next search begins. Times are seconds of a monotonic clock."""

    place: Place | None = None
    """Where work was last found; None to search from the head."""
    head_due: float = 0.0
    """From when on the head is searched again."""
    quick: float = 1.0
    """What a search costs where nothing is in its way."""

    def begin(self, now: float) -> Place | None:
        """Where to search now; None for the head."""
        return None if now >= self.head_due else self.place

    def after_head(self, now: float, seconds: float, found: Place | None) -> Self:
        """The head was searched: what it took, and the first job that was found."""
        quick = min(seconds, self.quick * 1.05)
        slow = seconds > quick * _SLOWER + _SLOWER_SECONDS
        wait = min(seconds * _SHARE, _LONGEST_SECONDS) if slow and found is not None else 0.0
        return replace(self, place=found, head_due=now + wait, quick=quick)

    def after_place(self, seconds: float, found: Place | None) -> Self:
        """The jobs from the place on were searched."""
        if found is None:
            return replace(self, place=None, head_due=0.0)
        return replace(self, place=found, quick=min(seconds, self.quick * 1.05))
