"""The periods of the dashboard's charts, and the bars that they consist of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case

from spoke_jobs.ledger.sql.expressions import clock_once, minutes_between


@dataclass(frozen=True, slots=True)
class Period:
    """A period until now. Its last bar ends now."""

    text: str
    minutes: int
    bar_text: str
    bar_minutes: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.minutes * 60.0

    @property
    def bars(self) -> int:
        """The number of its bars."""
        return self.minutes // self.bar_minutes


HOUR = Period("hour", 60, "minute", 1)
PERIODS: Mapping[str, Period] = {
    "1h": HOUR,
    "1d": Period("day", 1_440, "hour", 60),
    "7d": Period("7 days", 10_080, "6 hours", 360),
    "30d": Period("30 days", 43_200, "day", 1_440),
}
"""By the word in the address."""


def is_within(time: ColumnElement[Any], period: Period) -> ColumnElement[bool]:
    """Whether a time is in the period. Other code may have written a time to come."""
    return and_(time >= clock_once(-period.seconds), time <= clock_once())


def bars_ago(time: ColumnElement[Any], period: Period) -> ColumnElement[int | None]:
    """Return how many bars before the last one a time is; NULL if it is not in the period."""
    # Only then subtracted: PostgreSQL cannot subtract infinite times.
    minutes = minutes_between(time, clock_once())
    return case((is_within(time, period), minutes // period.bar_minutes), else_=None)


def by_bar(found: Iterable[tuple[int | None, int]], period: Period) -> tuple[int, ...]:
    """Return the number of each bar, that of the oldest first.

    :param found: how many bars ago, and how many jobs.
    """
    counts = [0] * period.bars
    for ago, number in found:
        if ago is not None:  # other code has written a time that SQLite cannot read
            counts[place_of(ago, period)] += number
    return tuple(counts)


def place_of(ago: int, period: Period) -> int:
    """Return the place of a bar, the oldest first. The clock goes on while the database counts."""
    return period.bars - 1 - min(max(ago, 0), period.bars - 1)
