"""Decide how many standby pods to keep, from recent arrivals and start times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from spoke_jobs_operator.core.objects.standby_bounds import StandbyBounds

WINDOW = timedelta(minutes=10)
"""How far back arrivals count. Pods that a burst needed are kept for this long."""
FIRST_LEAD = timedelta(seconds=10)
"""How long a standby pod is expected to take to be ready, before one has been."""
LONGEST_LEAD = timedelta(minutes=2)


def lead_time(starts: Iterable[timedelta]) -> timedelta:
    """Return how long a standby pod takes to be ready: the longest of the recent starts, within bounds.

    The clock of the API server, which says when a pod was created, may be ahead of the operator's.
    """
    return min(max(max(starts, default=FIRST_LEAD), timedelta()), LONGEST_LEAD)


def wanted(bounds: StandbyBounds, arrivals: Iterable[datetime], lead: timedelta, now: datetime) -> int:
    """Return how many standby pods should wait.

    While a used pod is replaced, the attempts that arrive use others. So the number is that of the attempts that
    arrived within the time of one replacement, in the busiest such time of the last minutes. If the same arrivals come
    again, each finds a pod.

    :param arrivals: when attempts came that could use a standby pod, whether or not one was free.
    :param lead: how long a standby pod takes to be ready.
    """
    recent = sorted(moment for moment in arrivals if now - WINDOW < moment <= now)
    busiest, first = 0, 0
    for last, moment in enumerate(recent):
        while moment - recent[first] > lead:
            first += 1
        busiest = max(busiest, last - first + 1)
    return min(max(bounds.minimum, busiest), bounds.maximum)
