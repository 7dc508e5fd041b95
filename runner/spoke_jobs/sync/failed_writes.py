"""Internal errors with which the API server answers writes of SpokeJobs: of some objects, or of all.

A webhook that fails, or an object that can't be stored, causes them for some SpokeJobs. An API server that can't write
causes them for all. Only the number of different SpokeJobs tells the two apart. One whose write has failed before does
not count again: later, sync may have only such writes left to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spoke_jobs.shared.api_errors import ServerError

MOST_FAILED = 20
"""If the writes of so many more SpokeJobs fail and none succeeds in between, the API server is unavailable."""
_REMEMBERED = 10_000
_UNAVAILABLE = 503


@dataclass(slots=True)
class FailedWrites:
    """The SpokeJobs whose last write has failed."""

    _failing: set[str] = field(default_factory=set)
    _in_a_row: int = 0
    """How many of them have been added since the last write that succeeded."""

    def concerns_one(self, name: str, error: Exception) -> bool:
        """Record an error about a SpokeJob. Return whether other SpokeJobs can probably be written nevertheless."""
        if not isinstance(error, ServerError) or error.status == _UNAVAILABLE:
            return False
        if name not in self._failing:
            if len(self._failing) >= _REMEMBERED:
                self._failing.clear()  # those that still fail count again
            self._failing.add(name)
            self._in_a_row += 1
        if self._in_a_row < MOST_FAILED:
            return True
        self._in_a_row = 0  # when sync tries again, it tries as many
        return False

    def succeeded(self, name: str) -> None:
        """Record a write that succeeded."""
        self._failing.discard(name)
        self._in_a_row = 0
