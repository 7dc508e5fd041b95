"""A throttle for statuses that only say that an attempt has started or runs. Ends and obstacles are never delayed.

When a thousand attempts start at once, writing each step of each would cost the API server as much as the attempts
themselves. Most of the statuses that are delayed here are overtaken by the attempt's end, which is one write.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from spoke_jobs.contract.token_bucket import TokenBucket
from spoke_jobs_operator.core.api_objects import Key


class StatusThrottle:
    """A budget of such writes.

    :param per_second: writes a second, in the long run.
    :param at_once: writes at once after a quiet time.
    :param within_seconds: the longest delay, whatever the budget says.
    :param clock: seconds, monotonic.
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
        """Seconds until this SpokeJob's status may be written; 0 for now, which counts as written."""
        now = self._clock()
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = now + self._take()
        if due > now:
            return due - now
        self.forget(key)
        return 0.0

    def forget(self, key: Key) -> None:
        """Drop the SpokeJob's delay: its status was written with something else, or it is gone."""
        self._due.pop(key, None)

    def _take(self) -> float:
        wait = self._bucket.take()
        if wait > self._within_seconds:  # written before its turn, so it takes no token from those behind it
            self._bucket.put_back()
        return min(wait, self._within_seconds)
