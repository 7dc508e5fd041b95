"""Decide whether a claim under limits takes one statement or several. Pure.

One statement claims the jobs that no limit applies to, and leaves the others. Several statements claim all jobs, and
take three times as long. The result is the same: jobs that the statement leaves are claimed by the several statements
that follow it, up to the number that was asked for.

The statement leaves out the scopes of which nothing could start at the last look (:class:`Closed`). Such a scope may
have opened since. While there is enough other work, a claim looks again after fifty times as long as the look takes,
and at most a second. Looking locks and claims nothing. Several statements look, too, before they claim, so a claim that
finds too few other jobs looks at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from spoke_jobs.limits.admission import NOTHING_CLOSED, Closed

_LOOK_TIMES = 50
"""How much longer than a look its result is used. Looking thus takes a fiftieth of the time at most."""
_TIMES = 10
"""How much longer than several statements their result is used."""
_LONGEST_SECONDS = 1.0
"""How long a result is used at most, so that a change of limits by hand in the database is seen."""
_WEIGHT = 0.25
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class ClaimRoute:
    """What earlier claims found. Times are seconds of a monotonic clock."""

    closed: Closed = NOTHING_CLOSED
    """The scopes of which nothing could start."""
    look_due: float | None = None
    """When to look again; None before the first claim under limits."""
    alone_from: float = 0.0
    """Until then, one statement would leave most jobs."""
    share: float = 0.0
    """The moving average of the share of jobs that it left."""

    def by_one_statement(self, now: float) -> bool:
        """Return whether the next claim begins with one statement."""
        return self.look_due is not None and self.alone_from <= now

    def looks(self, now: float) -> bool:
        """Return whether to look before the next claim by one statement."""
        return self.look_due is not None and self.look_due <= now

    def after_look(self, now: float, seconds: float, closed: Closed) -> Self:
        """Return what is known after a look, which took so long."""
        return self._closing(closed, now, _LOOK_TIMES * seconds)

    def after_several(self, now: float, seconds: float, closed: Closed) -> Self:
        """Return what is known after several statements, which took so long."""
        return self._closing(closed, now, _TIMES * seconds)

    def _closing(self, closed: Closed, now: float, wait: float) -> Self:
        wait = _LONGEST_SECONDS if closed.lasting else min(_LONGEST_SECONDS, wait)
        return replace(self, closed=closed, look_due=now + wait)

    def after_one(self, now: float, seconds: float, taken: int, left: int) -> Self:
        """Return what is known after one statement, given how many of the jobs that it found it took and left."""
        if not taken + left:
            return self
        share = self.share + _WEIGHT * (left / (taken + left) - self.share)
        if share <= _MOST:
            return self if share == self.share else replace(self, share=share)
        return replace(self, share=_MOST, alone_from=now + _TIMES * seconds)


UNKNOWN = ClaimRoute()
