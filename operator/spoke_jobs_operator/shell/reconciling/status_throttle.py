"""Throttle status writes that only say that an attempt has started or runs. Ends and obstacles are never delayed.

If a thousand attempts start at once, writing each of their steps would cost the API server as much as the attempts
themselves. Most delayed writes never happen: the attempt ends first, and one write records its run and its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from spoke_jobs.shared.token_bucket import TokenBucket
from spoke_jobs_operator.core.objects.api_objects import Key


class StatusThrottle:
    """A token bucket for these writes.

    :param per_second: the average number of writes per second.
    :param at_once: the most writes at once after a quiet period.
    :param within_seconds: the longest delay of a write, even if the bucket is empty.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        per_second: float = math.inf,
        at_once: float = math.inf,
        within_seconds: float = math.inf,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._bucket = TokenBucket(per_second, at_once, clock)
        self._within_seconds = within_seconds
        self._clock = clock
        self._due: dict[Key, float] = {}

    def wait(self, key: Key) -> float:
        """Return the seconds until this SpokeJob's status may be written. 0 means that the caller must write it now."""
        now = self._clock()
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = now + self._take()
        if due > now:
            return due - now
        self.forget(key)
        return 0.0

    def forget(self, key: Key) -> None:
        """Drop the SpokeJob's delay, after another write of its status, or after its deletion."""
        self._due.pop(key, None)

    def _take(self) -> float:
        wait = self._bucket.take()
        if wait > self._within_seconds:
            # The write happens after the longest delay, so it does not wait for this token: give it back.
            self._bucket.put_back()
        return min(wait, self._within_seconds)
