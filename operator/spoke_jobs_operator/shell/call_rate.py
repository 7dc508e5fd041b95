"""The cap on calls to the API server: a token bucket, and the pauses that the API server asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from spoke_jobs.contract.token_bucket import TokenBucket

LONGEST_PAUSE_SECONDS = 60.0


class CallRate:
    """A cap on calls. For one event loop.

    :param per_second: calls a second, in the long run.
    :param burst: so many at once, after a quiet time.
    :param clock: seconds, monotonic; ``sleep`` waits for so many.
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
        while (left := self._paused_until - self._clock()) > 0:  # a pause may have begun meanwhile
            await self._sleep(left)

    def pause(self, seconds: float) -> None:
        """Delay all calls for so many seconds: the API server is overloaded."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, LONGEST_PAUSE_SECONDS))
