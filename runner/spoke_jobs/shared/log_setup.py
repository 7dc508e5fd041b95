"""Log formats of every process: plain lines, or one JSON object per line, on standard error.

In JSON, each line of a job's attempt has the job's id, type, run and attempt as fields, including the lines that the
job's own code logs: see :class:`LogFields`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

from spoke_jobs.shared.clean_text import short_repr, visible, visible_json

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_NONE: Mapping[str, object] = MappingProxyType({})
_process_fields: dict[str, object] = {}
_context_fields: ContextVar[Mapping[str, object]] = ContextVar("spoke_log_fields", default=_NONE)

LEVEL = "SPOKE_LOG_LEVEL"
FORMAT = "SPOKE_LOG_FORMAT"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class LogFields:
    """A context manager: add fields to each JSON line that is logged within it, in this thread or asyncio task.

    It is a class and not a generator, because every task enters it, and a generator takes three times as long.
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        outer = _context_fields.get()
        self._token = _context_fields.set({**outer, **self._fields} if outer else self._fields)

    def __exit__(self, *_: object) -> None:
        _context_fields.reset(self._token)


def set_process_fields(**fields: object) -> None:
    """Add fields to each JSON line of this process, in all its threads: a job's pod runs one attempt."""
    _process_fields.update(fields)


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON; the process', the context's and its ``extra`` values become fields.

    Any record is valid input. A value that JSON has no form for becomes a short text: NaN, a dictionary with tuples as
    keys, one that contains itself, or one that is nested too deep.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_process_fields,
            **_context_fields.get(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self._traceback(record)
        try:
            return visible_json(_dumps(fields))
        except Exception:
            return visible_json(_dumps({str(name): _plain(value) for name, value in fields.items()}))

    def _traceback(self, record: logging.LogRecord) -> str:
        try:
            return self.formatException(record.exc_info) if record.exc_info else ""
        except Exception as error:  # the exception's own code may raise
            return f"<the traceback cannot be formatted: {type(error).__name__}>"


class VisibleFormatter(logging.Formatter):
    """Format a record as its message and traceback, with visible escapes for control characters.

    Jobs, pods and servers wrote parts of many messages, and people read logs on terminals.
    """

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class PlainFormatter(VisibleFormatter):
    """Format a record as time (UTC), level, logger and message.

    :param with_extra: append the record's ``extra`` as ``key=value``.
    """

    def __init__(self, *, with_extra: bool = False) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._with_extra = with_extra

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class' name)
        extra = [f"{name}={value}" for name, value in _extra(record).items()] if self._with_extra else []
        text = "  ".join([super().formatMessage(record), *([" ".join(extra)] if extra else [])])
        return text.replace("\n", "\n    ")  # so that no name in a message begins a line of its own


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
    """Configure a process of the runner by ``SPOKE_LOG_LEVEL`` (INFO) and ``SPOKE_LOG_FORMAT`` (plain).

    An invalid value counts as unset here: the settings, which are read later, name it.

    :param level: overrides the variable.
    """
    chosen = (level or os.environ.get(LEVEL) or "").upper()
    formatter = JsonFormatter() if logs_json() else PlainFormatter()
    quiet = ("alembic", "httpx", "httpcore", "urllib3")
    configure(chosen if chosen in LEVELS else "INFO", formatter, quiet=quiet)


def logs_json() -> bool:
    """Whether this process logs in JSON."""
    return os.environ.get(FORMAT) == "json"


def separate_product_lines(descriptor: int) -> None:
    """Write the product's own log lines to this file, and leave all others on standard error.

    A worker's child process calls this once standard error is the output of its jobs.
    """
    root = logging.getLogger()
    stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 (open until the process ends)
    for handler in list(root.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__):
            own = logging.StreamHandler(stream)
            own.setFormatter(handler.formatter)
            own.addFilter(_of_product)
            root.addHandler(own)
            handler.setStream(sys.stderr)
            handler.addFilter(lambda record: not _of_product(record))


def _of_product(record: logging.LogRecord) -> bool:
    """Whether the product logged this, and not a job by its context's logger."""
    return record.name.startswith("spoke_jobs.") and not record.name.startswith("spoke_jobs.job.")


def _message(record: logging.LogRecord) -> str:
    """Return the message; without its arguments, which are given after it, if they do not fit or cannot be printed."""
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg if isinstance(record.msg, str) else _short(record.msg)} {_short(record.args)}"


def _dumps(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, default=str, allow_nan=False)


def _plain(value: object) -> object:
    """Return the value if JSON has a form for it, else a short text."""
    try:
        _dumps({"value": value})
    except Exception:
        return _short(value)
    return value


def _short(value: object) -> str:
    try:
        return short_repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
