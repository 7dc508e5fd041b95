"""Measure how much memory a process and its descendants have now, from the kernel's files (Linux).

The functions take any bytes, and skip what they do not understand: a process may end while it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from spoke_jobs.execution.usage_meter import Read, number, read_file, value_of

ListThreads = Callable[[int], Iterable[str]]
"""Returns the ids of a process's threads; none if it has ended."""
_MOST_PROCESSES = 1000
"""How many processes are measured at most."""


def threads_of(pid: int) -> list[str]:
    """Return the ids of a process's threads; none if it has ended."""
    try:
        return [entry.name for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def can_measure() -> bool:
    """Whether this system has the files that the measurement needs."""
    return bool(read_file("/proc/self/statm"))


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Measures processes."""

    read: Read = read_file
    threads: ListThreads = threads_of
    page_bytes: int = os.sysconf("SC_PAGE_SIZE")

    def of(self, pid: int, bound: int = 0) -> int:
        """Return the bytes of memory that a process and its descendants have; 0 if they have ended.

        Two processes may share pages. The resident set of each counts them, so the sum is never too small. Only if it
        is above ``bound``, the sum of the proportional sets is read, which counts each page once, and takes longer.

        A process whose parent has ended is no descendant.
        """
        pids = self._family(pid)
        resident = [self.resident(one) for one in pids]
        if sum(resident) <= bound:
            return sum(resident)
        return sum(self._proportional(one, most) for one, most in zip(pids, resident, strict=True))

    def _family(self, pid: int) -> list[int]:
        found = {pid: None}
        left = [pid]
        while left and len(found) < _MOST_PROCESSES:
            one = left.pop()
            for thread in self.threads(one):
                children = self.read(f"/proc/{one}/task/{thread}/children").split()
                new = [child for word in children if (child := number(word)) is not None and child not in found]
                found.update(dict.fromkeys(new))
                left += new
        return list(found)

    def resident(self, pid: int) -> int:
        """Return the bytes of a process's resident set; 0 if it has ended."""
        words = self.read(f"/proc/{pid}/statm").split()
        pages = number(words[1]) if len(words) > 1 else None
        return (pages or 0) * self.page_bytes

    def _proportional(self, pid: int, resident: int) -> int:
        """Return the proportional set; the resident one if the kernel does not say it."""
        kibibytes = value_of(self.read(f"/proc/{pid}/smaps_rollup"), b"Pss")
        return resident if kibibytes is None else kibibytes * 1024
