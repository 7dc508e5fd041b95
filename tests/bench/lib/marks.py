"""Where jobs write when they began and ended: a file mapped into memory, which costs every system the same: nothing.

The times are of the monotonic clock, which all of a machine's processes share.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Marks:
    """Two times for each job, by the job's number; 0 until they are known."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._times = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")

    @classmethod
    def create(cls, path: Path, jobs: int) -> Self:
        """A new file, with room for the numbers below ``jobs``; an old one is left to those who have it open."""
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(16 * jobs))
        return cls(path)

    def begin(self, number: int) -> None:
        """The job begins now."""
        self._times[2 * number] = time.monotonic()

    def end(self, number: int) -> None:
        """The job ends now."""
        self._times[2 * number + 1] = time.monotonic()

    def begins(self, numbers: range) -> list[float]:
        """When those jobs that have begun did."""
        return self._known(self._times[2 * numbers.start : 2 * numbers.stop : 2])

    def ends(self, numbers: range) -> list[float]:
        """When those jobs that have ended did."""
        return self._known(self._times[2 * numbers.start + 1 : 2 * numbers.stop : 2])

    def begun_at(self, number: int) -> float:
        """When the job began; 0 if it hasn't."""
        return float(self._times[2 * number])

    def ended_at(self, number: int) -> float:
        """When the job ended; 0 if it hasn't."""
        return float(self._times[2 * number + 1])

    @staticmethod
    def _known(times: Sequence[float]) -> list[float]:
        return [when for when in times if when]
