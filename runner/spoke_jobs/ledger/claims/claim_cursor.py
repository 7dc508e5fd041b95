"""Decide where a worker's search for work starts. Pure.

Jobs are claimed by priority, then by age. The head of that order may contain only entries that cannot be claimed: jobs
of held queues, or index entries of finished jobs that the database cannot remove while some transaction is open. A
search from the head then gets slower with every claim. If it is slow twice in a row, the worker searches from the
position where it last found work. After a quarter of a second it searches from the head again, so that an urgent job
waits no longer than that. A worker that has found too few jobs meanwhile claims again then, notified or
not.

A search from the head is slow if it takes longer than searches from a stored position usually do. Before the first of
those, it is slow if it takes over a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

Place = tuple[int, int]
"""A job's position in the order of claims: its negated priority, then its id."""

_SLOWER = 1.5
_SLOWER_SECONDS = 0.001
_IN_A_ROW = 2
"""Consecutive slow searches that are needed. A single one may have another reason, such as a new connection."""
_HEAD_EVERY_SECONDS = 0.25
_GROWTH = 1.05
"""The factor by which ``quick`` may grow with each search, to adapt to a database that has become slower."""


@dataclass(frozen=True, slots=True)
class ClaimCursor:
    """Where the next search starts. Times are seconds of a monotonic clock."""

    place: Place | None = None
    """Where work was last found; None for the head."""
    head_due: float = 0.0
    """When to search from the head again."""
    quick: float | None = None
    """Seconds that an unobstructed search takes; None until known."""
    slow: int = 0
    """The number of consecutive slow searches from the head."""

    def begin(self, now: float) -> Place | None:
        """Return where to search now; None for the head."""
        return None if now >= self.head_due else self.place

    def after_head(self, now: float, seconds: float, found: Place | None) -> Self:
        """Return the cursor after a search from the head, given its duration and the first job found."""
        if seconds <= _SLOWER_SECONDS + (self.quick or 0.0) * _SLOWER:
            return replace(self, place=found, head_due=now, quick=self._quick_after(seconds), slow=0)
        slow = self.slow + 1
        wait = _HEAD_EVERY_SECONDS if slow >= _IN_A_ROW and found is not None else 0.0
        return replace(self, place=found, head_due=now + wait, slow=slow)

    def after_place(self, seconds: float, found: Place | None) -> Self:
        """Return the cursor after a search from the stored position."""
        if found is None:
            return replace(self, place=None, head_due=0.0)
        return replace(self, place=found, quick=self._quick_after(seconds))

    def _quick_after(self, seconds: float) -> float:
        return seconds if self.quick is None else min(seconds, self.quick * _GROWTH)
