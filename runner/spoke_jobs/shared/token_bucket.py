"""A token bucket: an average rate, and a burst after a quiet period."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def shortage(backlog: float, interval: float, burst: float) -> float:
    """Return how long the next token has to wait; 0 if it may be used now. Integers give an exact result.

    :param backlog: the time until the bucket is full if no token is taken.
    :param interval: the time in which one token comes.
    :param burst: how many tokens a full bucket has.
    """
    return max(0, backlog + interval - burst * interval)


class TokenBucket:
    """Give out tokens in the order of the calls. For one thread.

    :param per_second: the average number of tokens per second; infinite for no limit.
    :param burst: the most tokens at once after a quiet period; infinite for no limit.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self, per_second: float = math.inf, burst: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unlimited = math.inf in (per_second, burst)
        self._interval = 1 / per_second
        self._burst = burst
        self._clock = clock
        self._full_at = -math.inf
        """When the bucket will be full if no token is taken. Each taken token makes it later."""

    def take(self) -> float:
        """Take a token. Return the seconds until it may be used; 0 means now."""
        if self._unlimited:
            return 0.0
        now = self._clock()
        backlog = max(self._full_at - now, 0.0)
        self._full_at = now + backlog + self._interval
        return shortage(backlog, self._interval, self._burst)

    def put_back(self) -> None:
        """Return the token that was taken last."""
        self._full_at -= self._interval
