"""Limit the rate of calls to the API server, and pause when the API server asks for it.

The calls of the namespaces take turns. So a namespace with many calls delays those of the others by one call each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spoke_jobs.shared.api_errors import LONGEST_PAUSE_SECONDS
from spoke_jobs.shared.token_bucket import TokenBucket
from spoke_jobs_operator.core.process.fair_line import FairLine


class CallRate:
    """A token bucket for calls, with pauses. For one event loop.

    :param per_second: the average number of calls per second.
    :param burst: the most calls at once after a quiet period.
    :param clock: the monotonic clock, in seconds.
    :param later: calls a function after a number of seconds; by default with the running event loop.
    """

    def __init__(
        self,
        per_second: float = float("inf"),
        burst: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._bucket = TokenBucket(per_second, burst, clock)
        self._clock = clock
        self._later = later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._paused_until = float("-inf")
        self._line: FairLine[asyncio.Future[None]] = FairLine()

    async def turn(self, namespace: str | None = None) -> None:
        """Wait until a call may be made. The callers of one namespace are served in order.

        :param namespace: the namespace that the call is about; None for a call about all.
        """
        wait = max(self._bucket.take(), self._paused_until - self._clock())
        if wait <= 0:
            return
        caller: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.add(namespace, caller)
        self._later(wait, self._serve)  # a token comes for each caller, and goes to the one whose turn it is then
        await caller

    def _serve(self) -> None:
        if (left := self._paused_until - self._clock()) > 0:  # a pause may have started in the meantime
            self._later(left, self._serve)
            return
        while (taken := self._line.take()) is not None:
            _, caller = taken
            if not caller.done():  # its task may have been cancelled
                caller.set_result(None)
                return

    def pause(self, seconds: float) -> None:
        """Delay all calls for this many seconds, at most a minute: the API server is overloaded."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, LONGEST_PAUSE_SECONDS))
