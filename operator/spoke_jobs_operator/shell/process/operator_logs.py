"""Configure the operator's logging, and leave out kopf's repeated messages."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable

from spoke_jobs.shared import log_setup
from spoke_jobs.shared.log_setup import JsonFormatter, PlainFormatter

_ATTEMPT = re.compile(r"Request attempt #[\d/]+ failed; ([^/]*//[^ ?]*)")
"""The group is the request without its query. The number of the try, the error and the query differ each time."""
_REMEMBERED_REQUESTS = 1000


class Repeats(logging.Filter):
    """Log each failing request of kopf once per interval: kopf retries forever and logs each try."""

    def __init__(self, every_seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a repeated message."""
        if not record.name.startswith("kopf") or not (match := _ATTEMPT.match(record.getMessage())):
            return True
        request, now = match[1], self._clock()
        if now - self._logged_at.get(request, -math.inf) < self._every_seconds:
            return False
        if len(self._logged_at) >= _REMEMBERED_REQUESTS:
            self._logged_at.clear()
        self._logged_at[request] = now
        return True


def configure(level: str, form: str) -> None:
    """Log to standard error, as JSON or plain text; from kopf, aiohttp and asyncio only warnings and errors."""
    formatter = JsonFormatter() if form == "json" else PlainFormatter(with_extra=True)
    log_setup.configure(level, formatter, [Repeats()], quiet=("kopf", "aiohttp", "asyncio"))
    # kopf warns that it handles no signals in this thread. That is intended.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
