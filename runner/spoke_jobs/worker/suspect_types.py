"""Job types whose jobs take down the processes that run them. Pure: the caller has the clock.

A new child takes some tenths of a second of CPU time to start, and more to import a large application. So a burst of
jobs that take down their processes could keep all of a worker's processes from its other jobs. A type is *suspect* from
the time that one of its jobs takes down its process, until one of its jobs ends and its process goes on. The worker
runs one job of a suspect type at a time. Once two of its jobs in a row have taken down processes, the worker also
pauses the type, so that it costs at most about a fifth of one process's time. Attempts of the same job do not count
twice: their number has a bound of its own, the job's retry budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.contract.causes import Cause

TAKES_DOWN = frozenset({Cause.KILLED, Cause.OUT_OF_MEMORY, Cause.TIMEOUT, Cause.JOB_EXITED})
"""The causes of attempts that have taken down their process, and for which nobody else is to blame."""
PAUSE_FACTOR = 4.0
"""How many times longer than a job has kept a process from others the pause after it is."""
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Suspect:
    """A suspect type."""

    taken_down: int = 0
    """How many of its jobs in a row have taken down processes."""
    last_job: int | None = None
    """The last one of them."""
    paused_until: float = 0.0
    may_have_work: bool = True
    """Whether the ledger may have due jobs of the type."""


class SuspectTypes:
    """The suspect types of a worker.

    :param pauses: whether to pause types. Otherwise only one job of each runs at a time.
    """

    def __init__(self, *, pauses: bool) -> None:
        self._pauses = pauses
        self._suspects: dict[str, Suspect] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._suspects

    def __getitem__(self, name: str) -> Suspect:
        return self._suspects[name]

    def among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the types that are suspect."""
        return tuple(name for name in names if name in self._suspects) if self._suspects else ()

    def without(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the types that are not suspect."""
        return tuple(name for name in names if name not in self._suspects) if self._suspects else names

    def expect_work(self) -> None:
        """Assume that there may be due jobs of every type."""
        for suspect in self._suspects.values():
            suspect.may_have_work = True

    def took_down(self, name: str, job_id: int, lost_seconds: float, now: float) -> Suspect:
        """Note that a job of a type has taken down its process.

        :param lost_seconds: how long the process ran the job, and how long the next one takes to start.
        """
        suspect = self._suspects.setdefault(name, Suspect())
        suspect.taken_down += job_id != suspect.last_job
        suspect.last_job = job_id
        if self._pauses and suspect.taken_down > 1:
            suspect.paused_until = now + min(PAUSE_FACTOR * lost_seconds, LONGEST_PAUSE_SECONDS)
        return suspect

    def ended_well(self, name: str) -> bool:
        """Note that a job of a type has ended, and its process goes on. Return whether the type was suspect."""
        return self._suspects.pop(name, None) is not None
