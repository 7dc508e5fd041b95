"""Where a worker's search for work begins: pure.

Jobs are claimed by priority, then by age. What stands at the head of that order may be of no use to anybody: jobs of
held queues, or entries of jobs long done that the database can't remove while some transaction is open. Searching from
the head then costs more with every claim. A worker that finds the head slow, twice in a row, searches from where it
last found work, and from the head again a quarter of a second later: what is urgent waits no longer than that.

What is slow can't be told from the head alone: the database may be far away. So a search from a place is what the head
is measured by, and until there was one, anything over a millisecond is reason enough to try it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

Place = tuple[int, int]
"""A job's place in the order: its priority negated, then its id."""

_SLOWER = 1.5
_SLOWER_SECONDS = 0.001
_IN_A_ROW = 2
"""One slow search may be a new connection's first, or a machine's hiccup."""
_HEAD_EVERY_SECONDS = 0.25
_FORGETTING = 1.05
"""By how much what counts as quick may grow with each search: a database that has become slower is learnt anew."""


@dataclass(frozen=True, slots=True)
class ClaimCursor:
    """Where the next search begins. Times are seconds of a monotonic clock."""

    place: Place | None = None
    """Where work was last found; None to search from the head."""
    head_due: float = 0.0
    """From when on the head is searched again."""
    quick: float | None = None
    """What a search costs where nothing is in its way; None as long as that isn't known."""
    slow: int = 0
    """How often the head has been slow, one search after the other."""

    def begin(self, now: float) -> Place | None:
        """Where to search now; None for the head."""
        return None if now >= self.head_due else self.place

    def after_head(self, now: float, seconds: float, found: Place | None) -> Self:
        """The head was searched: what it took, and the first job that was found."""
        if seconds <= _SLOWER_SECONDS + (self.quick or 0.0) * _SLOWER:
            return replace(self, place=found, head_due=now, quick=self._learnt(seconds), slow=0)
        slow = self.slow + 1
        wait = _HEAD_EVERY_SECONDS if slow >= _IN_A_ROW and found is not None else 0.0
        return replace(self, place=found, head_due=now + wait, slow=slow)

    def after_place(self, seconds: float, found: Place | None) -> Self:
        """The jobs from the place on were searched."""
        if found is None:
            return replace(self, place=None, head_due=0.0)
        return replace(self, place=found, quick=self._learnt(seconds))

    def _learnt(self, seconds: float) -> float:
        return seconds if self.quick is None else min(seconds, self.quick * _FORGETTING)
