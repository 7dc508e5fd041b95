"""What several pages show: times, counts, notes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.words import ago, until
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount


@dataclass(frozen=True, slots=True)
class When:
    """A time, and how far away it is."""

    exact: str
    """In UTC, to the second."""
    machine: str
    """For the attribute `datetime`."""
    text: str

    @classmethod
    def of(cls, then: datetime, now: datetime) -> When:
        """Format a time in the past."""
        return cls._at(then, ago(then, now))

    @classmethod
    def planned(cls, then: datetime, now: datetime) -> When:
        """Format a time that is planned. It may have passed."""
        return cls._at(then, until(then, now) if then > now else ago(then, now))

    @classmethod
    def _at(cls, then: datetime, text: str) -> When:
        utc = then.astimezone(UTC)
        return cls(f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%dT%H:%M:%SZ}", text)


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many jobs or tasks are in a state."""

    state: str
    number: str
    path: str
    """The address of their list."""


def capped(number: CappedCount) -> str:
    """Format a count: ``10,000+`` if there are more."""
    return f"{number.number:,}{'+' if number.more else ''}"


def failures_note(groups: Iterable[Group], most: int) -> list[str]:
    """Say that not all failed jobs were grouped; empty if they were.

    :param most: the most jobs that are grouped.
    """
    if sum(group.count for group in groups if group.state == "failed") < most:
        return []
    return [f"Of the failed jobs, the {most:,} that failed last were grouped; there may be more."]
