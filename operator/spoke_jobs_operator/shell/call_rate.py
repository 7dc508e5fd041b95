"""Limit the rate of calls to the API server, and pause when the API server asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from spoke_jobs.contract.token_bucket import TokenBucket

LONGEST_PAUSE_SECONDS = 60.0


class CallRate:
    """A token bucket for calls, with pauses. For one event loop.

    :param per_second: the average number of calls per second.
    :param burst: the most calls at once after a quiet period.
    :param clock: the monotonic clock, in seconds.
    :param sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        per_second: float = float("inf"),
        burst: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bucket = TokenBucket(per_second, burst, clock)
        self._clock = clock
        self._sleep = sleep
        self._paused_until = float("-inf")

    async def turn(self) -> None:
        """Wait until a call may be made; callers are served in order."""
        if (wait := self._bucket.take()) > 0:
            await self._sleep(wait)
        while (left := self._paused_until - self._clock()) > 0:  # a pause may have started in the meantime
            await self._sleep(left)

    def pause(self, seconds: float) -> None:
        """Delay all calls for this many seconds, at most a minute: the API server is overloaded."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, LONGEST_PAUSE_SECONDS))
