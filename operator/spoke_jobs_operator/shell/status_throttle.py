"""How often statuses are written that only say how an attempt goes on: its end, and what is in its way, never wait.

When a thousand attempts start at once, telling of each step of each would cost the API server as much as the attempts
themselves; and most of what waits its turn here is overtaken by the attempt's end, which tells it all in one write.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from spoke_jobs.contract.token_bucket import TokenBucket
from spoke_jobs_operator.core.api_objects import Key


class StatusThrottle:
    """A budget of such writes.

    :param per_second: so many a second, in the long run.
    :param at_once: so many at once, after a quiet time.
    :param within_seconds: how long one waits at most, whatever the budget says.
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
        """In how many seconds this SpokeJob may have its status written; 0: now, and that counts as done."""
        now = self._clock()
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = now + self._take()
        if due > now:
            return due - now
        self.forget(key)
        return 0.0

    def forget(self, key: Key) -> None:
        """It has nothing to tell any more, or has told it with something else."""
        self._due.pop(key, None)

    def _take(self) -> float:
        wait = self._bucket.take()
        if wait > self._within_seconds:  # it is written before its turn, and takes none from those behind it
            self._bucket.put_back()
        return min(wait, self._within_seconds)
