"""Log formats of every process: plain lines, or one JSON object per line, on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON; its ``extra`` values become fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class PlainFormatter(logging.Formatter):
    """Format a record as time (UTC), level, logger and message.

    :param with_extra: append the record's ``extra`` as ``key=value``.
    """

    def __init__(self, *, with_extra: bool = False) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._with_extra = with_extra

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class' name)
        extra = [f"{name}={value}" for name, value in _extra(record).items()] if self._with_extra else []
        return "  ".join([super().formatMessage(record), *([" ".join(extra)] if extra else [])])


def configure(
    level: str, formatter: logging.Formatter, filters: Iterable[logging.Filter] = (), quiet: Iterable[str] = ()
) -> None:
    """Log to standard error, and replace any earlier configuration.

    :param quiet: loggers of libraries, of which only warnings and errors are logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    for item in filters:
        handler.addFilter(item)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def configure_logging(level: str | None = None) -> None:
    """Configure a process of the runner: plain lines.

    :param level: if None, ``SPOKE_LOG_LEVEL``, or INFO if that is not set.
    """
    chosen = (level or os.environ.get("SPOKE_LOG_LEVEL") or "INFO").upper()
    configure(chosen, PlainFormatter(), quiet=("alembic", "httpx", "httpcore", "urllib3"))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
