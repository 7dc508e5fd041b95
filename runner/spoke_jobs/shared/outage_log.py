"""Log an outage of a database or an API server: each new reason once, reminders, and the recovery.

A process that retries every second would otherwise fill the log with the same line, and a new reason (a wrong password
after a restart) would be lost in it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

REMIND_SECONDS = 60.0
_REASONS = 20
"""The most reasons that are remembered. A reason with a changing number is one reason."""
_REASON_LENGTH = 300


class OutageLog:
    """Log the outages of one thing. Thread-safe.

    :param subject: what is away, for example "the database".
    :param began: the text of the first line, without the reason; if empty, "SUBJECT is unavailable".
    :param consequence: what follows for the process.
    :param remind_seconds: the interval between two lines of a lasting outage without a new reason.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        logger: logging.Logger,
        subject: str,
        *,
        began: str = "",
        consequence: str = "retrying",
        remind_seconds: float = REMIND_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._subject = subject
        self._began = began or f"{subject} is unavailable"
        self._consequence = consequence
        self._remind_seconds = remind_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._logged_at = 0.0
        self._reasons: set[str] = set()
        self._failures = 0

    @property
    def lasts(self) -> bool:
        """Whether an outage was recorded, and no recovery since."""
        return self._since is not None

    def failed(self, reason: str, level: int = logging.WARNING) -> None:
        """Record a failure; log it if its reason is new in this outage, or a reminder is due.

        :param reason: the error's text. It must contain no secret.
        """
        reason = reason.strip().partition("\n")[0][:_REASON_LENGTH]
        with self._lock:
            now = self._clock()
            if self._since is None:
                self._since = now
            self._failures += 1
            lasted = now - self._since
            known = re.sub(r"\d+", "N", reason) in self._reasons
            if known and now - self._logged_at < self._remind_seconds:
                return
            if not known and len(self._reasons) < _REASONS:
                self._reasons.add(re.sub(r"\d+", "N", reason))
            self._logged_at = now
            failures = self._failures
        fields = {"reason": reason, "outage_seconds": round(lasted, 1), "failures": failures}
        if known:
            text = f"{self._subject} is still unavailable after %.0f s (%s); {self._consequence}"
            self._logger.log(level, text, lasted, reason, extra=fields)
        else:
            self._logger.log(level, f"{self._began} (%s); {self._consequence}", reason, extra=fields)

    def reset(self) -> None:
        """Record that it answers, without a log line, because the caller logs the recovery itself."""
        with self._lock:
            self._since = None
            self._failures = 0
            self._reasons.clear()

    def recovered(self) -> None:
        """Record that it answers; log the end of an outage."""
        with self._lock:
            since, failures = self._since, self._failures
        if since is None:
            return
        self.reset()
        lasted = self._clock() - since
        fields = {"outage_seconds": round(lasted, 1), "failures": failures}
        self._logger.info(f"{self._subject} answers again after %.0f s", lasted, extra=fields)
