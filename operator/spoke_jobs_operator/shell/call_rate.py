"""How often the API server is called: a bucket of tokens that fills at a steady rate, and a pause that it asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from spoke_jobs.contract.token_bucket import TokenBucket

LONGEST_PAUSE_SECONDS = 60.0


class CallRate:
    """A cap on calls. It is used within one event loop.

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
        """Wait for a turn; turns come in the order of the calls."""
        if (wait := self._bucket.take()) > 0:
            await self._sleep(wait)
        while (left := self._paused_until - self._clock()) > 0:  # a pause may have been asked for meanwhile
            await self._sleep(left)

    def pause(self, seconds: float) -> None:
        """Let everybody wait for so long from now: the API server has said that it is overloaded."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, LONGEST_PAUSE_SECONDS))
