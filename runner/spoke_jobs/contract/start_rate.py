"""Rates: how many attempts may start in a time. The ledger and the operator share them.

A rate is a token bucket whose state is one time: when the bucket will be full if no attempt starts. Each start makes it
later. The functions are pure. Times between tokens are whole microseconds, so that sums of them are exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Self

from spoke_jobs.shared.clean_text import short_repr
from spoke_jobs.shared.token_bucket import shortage

MOST_STARTS = 1_000_000
FASTEST = 10_000
"""Starts in a second."""
LONGEST_PERIOD = 7 * 86_400
RATE_FORM = "N/s, N/min, N/h, N/d or N/30s"
RATE_LENGTH = 20
"""The longest text of a rate in a SpokeLimit."""
UNITS = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}
"""The seconds of each unit of a period."""
_RATE = re.compile(rf"(\d{{1,9}})\s*/\s*(\d{{0,6}})({'|'.join(UNITS)})", re.ASCII)
_BURST = ", burst "


@dataclass(frozen=True, slots=True)
class StartRate:
    """How many attempts may start: a token bucket.

    :raises ValueError: if a field can't be honored.
    """

    error: ClassVar[type[Exception]] = ValueError
    """What is raised."""

    count: int
    """How many in each period, on average."""
    seconds: int = 1
    """The period."""
    burst: int = 1
    """How many at once after a quiet time."""

    def __post_init__(self) -> None:
        if not is_whole(self.count, 1, MOST_STARTS):
            raise self.error(
                f"a rate of {short_repr(self.count)} can't be kept: give 1 to {MOST_STARTS:,} starts in a period "
                "(max_running 0 or a pause keeps everything from starting)"
            )
        if not is_whole(self.seconds, 1, LONGEST_PERIOD):
            raise self.error(f"a rate's period is {short_repr(self.seconds)} s: give 1 second to 7 days")
        if self.count > FASTEST * self.seconds:
            raise self.error(f"the rate {self.text} can't be kept: the fastest is {FASTEST:,}/s; leave it out for none")
        if not is_whole(self.burst, 1, MOST_STARTS):
            raise self.error(f"burst is {short_repr(self.burst)}: give 1 to {MOST_STARTS:,}")

    @classmethod
    def parse(cls, text: str, burst: int = 1) -> Self:
        """Read ``5/s``, ``100/min``, ``1000/h``, ``10/30s``.

        :raises ValueError: if it is none.
        """
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise cls.error(f"{short_repr(text)} is not a rate: give {RATE_FORM}")
        return cls(int(found[1]), int(found[2] or 1) * UNITS[found[3]], burst)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `str()` made."""
        rate, _, burst = text.partition(_BURST)
        return cls.parse(rate, int(burst or 1))

    def __str__(self) -> str:
        return self.text + (f"{_BURST}{self.burst}" if self.burst != 1 else "")

    @property
    def text(self) -> str:
        """The rate without its burst, as :meth:`parse` reads it."""
        unit = {1: "s", 60: "min", 3_600: "h", 86_400: "d"}.get(self.seconds, f"{self.seconds}s")
        return f"{self.count}/{unit}"

    @property
    def doubled(self) -> Self:
        """The same rate with twice as many starts, or with as many as there may be."""
        return replace(self, count=min(2 * self.count, MOST_STARTS, FASTEST * self.seconds))

    @property
    def interval(self) -> int:
        """The time between two tokens in microseconds, rounded up."""
        return -(-self.seconds * 1_000_000 // self.count)

    def backlog(self, full_at: datetime | None, now: datetime) -> int:
        """Return the microseconds until the bucket is full.

        If that is far more than an empty bucket takes, the clock was set back, or the rate was raised: one token is
        left.

        :param full_at: the bucket; None for a full one.
        """
        if full_at is None:
            return 0
        backlog = (full_at - now) // timedelta(microseconds=1)
        whole = self.burst * self.interval
        return whole - self.interval if backlog > 2 * whole else max(backlog, 0)

    def wait(self, full_at: datetime | None, now: datetime) -> timedelta:
        """Return the time until the next attempt may start; zero if one may now."""
        return timedelta(microseconds=shortage(self.backlog(full_at, now), self.interval, self.burst))

    def started(self, full_at: datetime | None, now: datetime) -> datetime:
        """Return the bucket after an attempt has started."""
        return now + timedelta(microseconds=self.backlog(full_at, now) + self.interval)

    def tokens(self, full_at: datetime | None, now: datetime) -> int:
        """Return how many attempts may start now."""
        return max(0, self.burst * self.interval - self.backlog(full_at, now)) // self.interval

    def used_up(self, full_at: datetime | None, now: datetime) -> datetime:
        """Return the bucket if all its tokens were used: as many attempts may have started since it was known."""
        return now + timedelta(microseconds=self.backlog(full_at, now) + self.tokens(full_at, now) * self.interval)


def is_whole(value: object, lowest: int, highest: int) -> bool:
    """Whether a value is a whole number between two bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
