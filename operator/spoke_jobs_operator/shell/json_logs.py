"""Structured logs on standard error: one JSON object a line, or plain text for people."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_ATTEMPT = re.compile(r"Request attempt #[\d/]+ failed; ([^/]*//[^ ?]*)")
"""Without its number, the query, which holds how far a watch has come, and the error."""
_REMEMBERED_REQUESTS = 1000


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what is given as ``extra`` becomes fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class PlainFormatter(logging.Formatter):
    """Time, level, message, and the extra fields as ``key=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class' name)
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        return f"{super().formatMessage(record)}{'  ' if extras else ''}{extras}"


class Repeats(logging.Filter):
    """Lets each of kopf's failing requests be told of once in a while: it tries them for ever, a line for each try."""

    def __init__(self, every_seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
        if not record.name.startswith("kopf") or not (match := _ATTEMPT.match(record.getMessage())):
            return True
        request, now = match[1], self._clock()
        if now - self._told_at.get(request, -math.inf) < self._every_seconds:
            return False
        if len(self._told_at) >= _REMEMBERED_REQUESTS:
            self._told_at.clear()
        self._told_at[request] = now
        return True


def configure(level: str, form: str) -> None:
    """Send all logging to standard error. kopf's own chatter is kept to warnings: its streams are ours to report on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(JsonFormatter() if form == "json" else PlainFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns that it leaves signals alone in this thread, which is what is wanted.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
