"""Probe at growing intervals while attempts are held, and open admission gradually once a probe gets through.

:mod:`.refusal_hold` probes for more room than a quota had, and :mod:`.dependency_hold` whether a database answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.shared.backoff import Backoff

INTERVALS = Backoff(10.0, 60.0)
"""The seconds until the next probe."""
ENOUGH = 20
"""At this :attr:`Probing.allowance`, admission is open again."""
FORGOTTEN = timedelta(minutes=10)
"""A hold is removed if nothing has shown for this time that it is still needed."""


@dataclass(frozen=True, slots=True)
class Probing:
    """When the next probe may start, and how far admission is open again."""

    next_probe: datetime
    in_a_row: int = 1
    """How many probes in a row have shown no change, counting what caused the hold."""
    allowance: int = 0
    """0 while probes show no change. Afterwards, how many attempts may start before they have shown one."""

    @classmethod
    def begun(cls, now: datetime) -> Probing:
        """Hold attempts from now on."""
        return cls(now + timedelta(seconds=INTERVALS.after(1)))

    def is_due(self, now: datetime) -> bool:
        """Whether a probe may start."""
        return now >= self.next_probe

    def started(self, now: datetime) -> Probing:
        """Count a probe that starts. The next one starts later."""
        in_a_row = self.in_a_row + 1
        return replace(self, in_a_row=in_a_row, next_probe=now + timedelta(seconds=INTERVALS.after(in_a_row)))

    def held_again(self, now: datetime) -> Probing:
        """Close admission after another refusal."""
        later = max(self.next_probe, now + timedelta(seconds=INTERVALS.after(self.in_a_row)))
        return replace(self, allowance=0, next_probe=later)

    def opened(self, by: int = 1) -> Probing:
        """Let more attempts start, since one got through."""
        return replace(self, allowance=min(self.allowance + by, ENOUGH), in_a_row=1)

    @property
    def is_over(self) -> bool:
        """Whether admission is open again."""
        return self.allowance >= ENOUGH
