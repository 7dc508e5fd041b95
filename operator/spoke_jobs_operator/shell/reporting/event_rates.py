"""Limit the rate of Kubernetes Events: for each namespace and type, so that a busy namespace silences no other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from spoke_jobs.shared.token_bucket import TokenBucket
from spoke_jobs_operator.core.reporting.job_events import EventType

ALL_NAMESPACES = 10
"""All namespaces together may send this many times the Events of one."""
_REMEMBERED = 1000
"""The most namespaces and types whose recent Events are remembered. The others count as quiet."""


class EventRates:
    """Token buckets for Events.

    :param per_second: the average number of Events of each namespace and type per second.
    :param at_once: the most of them at once after a quiet period.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, per_second: float, at_once: float, clock: Callable[[], float]) -> None:
        self._rate = (per_second, at_once, clock)
        # Normal Events of a burst of new jobs must not displace warnings.
        self._all = {kind: self._make(ALL_NAMESPACES) for kind in EventType}
        self._own: OrderedDict[tuple[str, EventType], TokenBucket] = OrderedDict()

    def take(self, namespace: str, kind: EventType) -> bool:
        """Whether an Event may be sent now; if so, it is counted."""
        own = self._bucket(namespace, kind)
        if not _take(own):
            return False
        if not _take(self._all[kind]):
            own.put_back()
            return False
        return True

    def _make(self, times: int) -> TokenBucket:
        per_second, at_once, clock = self._rate
        return TokenBucket(times * per_second, times * at_once, clock)

    def _bucket(self, namespace: str, kind: EventType) -> TokenBucket:
        key = (namespace, kind)
        bucket = self._own.get(key)
        if bucket is None:
            bucket = self._own[key] = self._make(1)
        self._own.move_to_end(key)
        if len(self._own) > _REMEMBERED:
            self._own.popitem(last=False)
        return bucket


def _take(bucket: TokenBucket) -> bool:
    if bucket.take() > 0:
        bucket.put_back()
        return False
    return True
