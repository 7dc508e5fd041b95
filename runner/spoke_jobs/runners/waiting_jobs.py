"""The jobs that wait to be launched by this process, in lines. Pure.

Jobs that lock the same queue stand in one line, in the order of their rows. One of them is launched at a time. Every
other job is a line of its own. Lines are served in the order in which their first job came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from spoke_jobs.model import JobRequest

Line = str | int
"""The queue that the jobs of a line lock, or the number of the only job."""


class Waiting(NamedTuple):
    """A job that waits. The fields before it are its place in its line."""

    row: int
    number: int
    job: JobRequest
    until: float


@dataclass(slots=True)
class WaitingJobs:
    """The jobs that wait, and the queues of which a job is being launched."""

    _lines: dict[Line, list[Waiting]] = field(default_factory=dict)
    """The jobs that wait, as a heap."""
    _free: list[tuple[int, Line]] = field(default_factory=list)
    """The lines whose first job may be launched now, as a heap."""
    _launching: set[str] = field(default_factory=set)
    _count: int = 0
    _numbers: int = 0

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """How many of the jobs may be launched now, all at once."""
        return len(self._free)

    def add(self, job: JobRequest, until: float) -> None:
        """Add a job that is tried until then."""
        self._numbers += 1
        name: Line = job.queue_name if job.locks_queue else self._numbers
        line = self._lines.setdefault(name, [])
        if not line and name not in self._launching:
            heappush(self._free, (self._numbers, name))
        heappush(line, Waiting(job.id, self._numbers, job, until))
        self._count += 1

    def first(self) -> Waiting | None:
        """Return the job that :meth:`take` takes; None if no job may be launched now."""
        return self._lines[self._free[0][1]][0] if self._free else None

    def take(self) -> Waiting | None:
        """Remove the first job that may be launched now. Call :meth:`launched` when its launch has ended."""
        if not self._free:
            return None
        _, name = heappop(self._free)
        line = self._lines[name]
        taken = heappop(line)
        self._count -= 1
        if not line:
            del self._lines[name]
        if isinstance(name, str):
            self._launching.add(name)
        return taken

    def launched(self, job: JobRequest) -> bool:
        """Record the end of a launch. Return whether another job may be launched instead."""
        if not job.locks_queue:
            return False
        self._launching.discard(job.queue_name)
        line = self._lines.get(job.queue_name)
        if line:
            heappush(self._free, (line[0].number, job.queue_name))
        return bool(line)

    def clear(self) -> None:
        """Remove all jobs. The launches go on."""
        self._lines.clear()
        self._free.clear()
        self._count = 0
