"""A limit on log lines that anybody who can reach the port can cause."""

from __future__ import annotations

import logging
from collections.abc import Callable

from spoke_jobs.shared.token_bucket import TokenBucket

LINES_PER_SECOND = 1.0
LINES_BURST = 20.0


class LogThrottle(logging.Filter):
    """Drop warnings and errors beyond a rate. The next line says how many were dropped. For one thread."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        given = {} if clock is None else {"clock": clock}
        self._bucket = TokenBucket(LINES_PER_SECOND, LINES_BURST, **given)
        self._dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        if record.levelno < logging.WARNING:
            return True
        if self._bucket.take() > 0:
            self._bucket.put_back()
            self._dropped += 1
            return False
        if self._dropped:
            record.msg = f"{record.getMessage()} ({self._dropped:,} lines before this one were not logged)"
            record.args = None
            self._dropped = 0
        return True
