"""What several pages show: times, counts, notes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from spoke_jobs.explain.groups import Group, oldest_of
from spoke_jobs.explain.words import ago, line, until
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount
from spoke_jobs.web.job_search import address

SYNC_IS_ACTIVE = "Sync is active."
NO_SYNC = "No sync is active: jobs that wait get no SpokeJob. Check that `spoke-jobs sync` runs."


@dataclass(frozen=True, slots=True)
class When:
    """A time, and how far away it is."""

    exact: str
    """In UTC, to the second."""
    local: str
    """In the zone of `now`, which is the reader's."""
    machine: str
    """For the attribute `datetime`."""
    text: str

    @classmethod
    def of(cls, then: datetime, now: datetime) -> When:
        """Format a time in the past."""
        return cls._at(then, now, ago(then, now))

    @classmethod
    def planned(cls, then: datetime, now: datetime) -> When:
        """Format a time that is planned. It may have passed."""
        return cls._at(then, now, until(then, now) if then > now else ago(then, now))

    @classmethod
    def _at(cls, then: datetime, now: datetime, text: str) -> When:
        utc, local = then.astimezone(UTC), then.astimezone(now.tzinfo)
        return cls(f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{local:%Y-%m-%d %H:%M:%S %Z}", f"{utc:%Y-%m-%dT%H:%M:%SZ}", text)


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many jobs or tasks are in a state."""

    state: str
    number: str
    path: str
    """The address of their list."""


@dataclass(frozen=True, slots=True)
class GroupItem:
    """A group of jobs that wait or have failed for one reason."""

    number: str
    text: str
    oldest: str
    advice: str
    path: str
    """The jobs, or one of them; empty if they cannot be listed."""


def group_item(group: Group, now: datetime) -> GroupItem:
    """Describe a group of jobs."""
    path = f"/jobs/{group.job_id}" if group.job_id is not None else ""
    if group.state == "failed":
        path = address("/jobs", state="failed", cause=group.reason, fingerprint=group.fingerprint)
    return GroupItem(f"{group.count:,}", group.text, oldest_of(group, now), line(group.advice), path)


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
