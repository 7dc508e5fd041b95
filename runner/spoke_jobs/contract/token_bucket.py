"""A token bucket: a rate in the long run, and a burst after a quiet time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class TokenBucket:
    """Hand out tokens in the order of the calls. For one thread.

    :param per_second: tokens a second, in the long run; infinite for no limit.
    :param burst: how many are available at once after a quiet time; infinite for no limit.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self, per_second: float = math.inf, burst: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unlimited = math.inf in (per_second, burst)
        self._interval = 1 / per_second
        self._burst_seconds = 0.0 if self._unlimited else burst / per_second
        self._clock = clock
        self._full_at = -math.inf
        """When the bucket would be full if nobody took anything: each token taken moves it away."""

    def take(self) -> float:
        """Take a token; return the seconds until it may be used, 0 for now."""
        if self._unlimited:
            return 0.0
        now = self._clock()
        self._full_at = max(self._full_at, now) + self._interval
        return max(0.0, self._full_at - self._burst_seconds - now)

    def put_back(self) -> None:
        """Return the token that was taken last."""
        self._full_at -= self._interval
