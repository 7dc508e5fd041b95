"""The operator's logging: the formats of every process, and kopf's repetitions left out."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable

from spoke_jobs.contract import log_setup
from spoke_jobs.contract.log_setup import JsonFormatter, PlainFormatter

_ATTEMPT = re.compile(r"Request attempt #[\d/]+ failed; ([^/]*//[^ ?]*)")
"""Without its number, the error, and the query, which holds how far a watch has come."""
_REMEMBERED_REQUESTS = 1000


class Repeats(logging.Filter):
    """Log each of kopf's failing requests once in a while: kopf retries them forever, and logs each try."""

    def __init__(self, every_seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
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
    """Send all logging to standard error, as JSON or plain; kopf's and aiohttp's own only from warnings on."""
    formatter = JsonFormatter() if form == "json" else PlainFormatter(with_extra=True)
    log_setup.configure(level, formatter, [Repeats()], quiet=("kopf", "aiohttp", "asyncio"))
    # It warns that it leaves signals alone in this thread, which is what is wanted.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
