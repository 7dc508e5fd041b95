"""Whether the replica can serve senders, for the readiness probe. Pure.

Requests with invalid credentials, or with unknown tokens beyond the limit, do not count. Otherwise anybody could make a
replica unready.
"""

from __future__ import annotations

import time
from collections.abc import Callable

UNREADY_AFTER_SECONDS = 10.0
"""For how long requests must have been turned away, with none accepted."""
QUIET_SECONDS = 30.0
"""A replica is ready again when it has turned nobody away for this long."""


class Readiness:
    """Notes the requests that are accepted, and those that are turned away although they may be good."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0
        self._why = ""

    def accepted(self) -> None:
        """Note a request with tasks that was accepted."""
        self._since = None

    def turned_away(self, why: str) -> None:
        """Note a request, or a connection, for which there was no room or no review."""
        now = self._clock()
        if self._since is None or now - self._last > QUIET_SECONDS:
            self._since = now
        self._last = now
        self._why = why

    def problem(self) -> str | None:
        """Return why no request gets through; None if requests do, or if nobody has tried."""
        if self._since is None or self._clock() - self._last > QUIET_SECONDS:
            return None
        seconds = self._last - self._since
        if seconds < UNREADY_AFTER_SECONDS:
            return None
        return f"no request was accepted for {seconds:.0f} s: {self._why}"
