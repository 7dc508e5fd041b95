"""Job types whose jobs take down the processes that run them. Pure: the caller has the clock.

A new child takes some tenths of a second of CPU time to start, and more to import a large application. So a burst of
jobs that take down their processes could keep all of a worker's processes from its other jobs. A type is *suspect* once
two of its jobs in a row have taken down processes, until one of its jobs ends and its process goes on, and for ten
minutes at most. Attempts of one job do not count twice: their number has a bound of its own, the job's retry budget.
The worker pauses a suspect type after each loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.contract.causes import Cause

TAKES_DOWN = frozenset({Cause.KILLED, Cause.OUT_OF_MEMORY, Cause.TIMEOUT, Cause.JOB_EXITED})
"""The causes of attempts that have taken down their process, and for which nobody else is to blame."""
PAUSE_FACTOR = 4.0
"""How many times longer than a job has kept a process from others the pause after it is."""
LONGEST_PAUSE_SECONDS = 30.0
_FORGOTTEN_SECONDS = 600.0
"""How long a loss counts. The next job of the type may take hours, and others would have to wait for it."""
_JOBS = 2
"""From so many jobs in a row on, a type is suspect."""


@dataclass(slots=True)
class Losses:
    """The processes that the last jobs of a type have taken down."""

    jobs: int = 0
    """How many of its jobs in a row have taken down processes."""
    last_job: int | None = None
    """The last one of them."""
    last_at: float = 0.0
    paused_until: float = 0.0
    may_have_work: bool = True
    """Whether the ledger may have due jobs of the type."""


class SuspectTypes:
    """The suspect types of a worker.

    :param pauses: whether to pause types. Otherwise they are only run with less concurrency.
    """

    def __init__(self, *, pauses: bool) -> None:
        self._pauses = pauses
        self._losses: dict[str, Losses] = {}

    def __contains__(self, name: str) -> bool:
        found = self._losses.get(name)
        return found is not None and found.jobs >= _JOBS

    def __getitem__(self, name: str) -> Losses:
        return self._losses[name]

    def __len__(self) -> int:
        return sum(name in self for name in self._losses)

    def among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the types that are suspect."""
        return tuple(name for name in names if name in self) if self._losses else ()

    def without(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the types that are not suspect."""
        return tuple(name for name in names if name not in self) if self._losses else names

    def expect_work(self) -> None:
        """Assume that there may be due jobs of every type."""
        for losses in self._losses.values():
            losses.may_have_work = True

    def took_down(self, name: str, job_id: int, lost_seconds: float, now: float) -> Losses:
        """Note that a job of a type has taken down its process. Call this once for each process.

        :param lost_seconds: how long the process ran the job, and how long the next one takes to start.
        """
        losses = self._losses.setdefault(name, Losses())
        losses.jobs += job_id != losses.last_job
        losses.last_job = job_id
        losses.last_at = now
        if self._pauses and losses.jobs >= _JOBS:
            losses.paused_until = now + min(PAUSE_FACTOR * lost_seconds, LONGEST_PAUSE_SECONDS)
        return losses

    def forget_old(self, now: float) -> bool:
        """Forget the types that have lost no process for a long time. Return whether one of them was suspect."""
        old = [name for name, losses in self._losses.items() if now > losses.last_at + _FORGOTTEN_SECONDS]
        suspect = any(name in self for name in old)
        for name in old:
            del self._losses[name]
        return suspect

    def ended_well(self, name: str) -> bool:
        """Note that a job of a type has ended, and its process goes on. Return whether the type was suspect."""
        suspect = name in self
        self._losses.pop(name, None)
        return suspect
