"""Read values of the database that other code may have written. One unreadable value must not stop a query.

A time that cannot be read becomes :data:`UNKNOWN_TIME`, a UUID :data:`UNKNOWN_UID`, and JSON None.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from spoke_jobs.shared import strict_json
from spoke_jobs.shared.strict_json import NotJson

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN_UID = UUID(int=0)
_EARLIEST, _LATEST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
"""Times between these can be converted to any zone, and seconds can be added to them. Earlier and later ones are read
as these."""
_LONG = 210
"""So many digits and an exponent of two digits may be a number that is larger than every float, about 1.8e308."""
_EXPONENT = re.compile(r"[eE]\+?[0-9]{3}")
"""A larger exponent."""
_MILLISECONDS_FROM = 1e11
"""Numbers from here on are milliseconds since 1970, smaller ones seconds. Knex stores milliseconds on SQLite."""


def read_json(text: Any) -> Any:
    """Read JSON text with the strict reader. A lone surrogate is read nevertheless.

    A job's result may have one: Python writes a file's name that is not UTF-8 in this way. SQLite stores a number in a
    JSON column as a number, which is returned unchanged.
    """
    if isinstance(text, int | float):
        return text if strict_json.is_bounded(text) else None
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        return None
    value = strict_json.read_json(text)
    if isinstance(value, NotJson):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
    elif len(text) < _LONG and not _EXPONENT.search(text):  # no number can be infinite
        return value
    return value if strict_json.is_bounded(value) else None


def read_uid(value: Any) -> UUID:
    """Read a UUID from text."""
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return UNKNOWN_UID


def read_text(value: Any) -> str | None:
    """Read text; a value of another type becomes text (SQLite stores any type in any column)."""
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_count(value: Any) -> int:
    """Read a whole number; a value of another type becomes 0."""
    return value if isinstance(value, int) else 0


def read_number(value: Any) -> int | None:
    """Read a whole number or NULL; a value of another type becomes None."""
    return value if isinstance(value, int) else None


def read_sqlite_time(value: Any) -> datetime | None:
    """Read a time as SQLite may hold it: ISO text, in UTC unless it has an offset, or a number since 1970."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return read_iso_time(value)
        return in_utc(UNKNOWN_TIME + timedelta(seconds=value / 1000 if abs(value) >= _MILLISECONDS_FROM else value))
    except (ValueError, TypeError, OverflowError):
        return UNKNOWN_TIME


def read_iso_time(text: str) -> datetime:
    """Read ISO text, in UTC unless it has an offset.

    :raises ValueError: if it is no time.
    """
    found = datetime.fromisoformat(text)
    return in_utc(found.replace(tzinfo=UTC) if found.tzinfo is None else found)


def in_utc(value: datetime) -> datetime:
    """Convert a time to UTC. A time at either end of Python's calendar, where this may fail, is read as a near one."""
    if value.year < _EARLIEST.year:
        return _EARLIEST
    return value.astimezone(UTC) if value.year <= _LATEST.year else _LATEST


def use_lenient_times(connection: Any) -> None:
    """Make a psycopg connection read the times that Python has no form for, such as ``infinity``."""
    from psycopg import DataError
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    oid = connection.adapters.types["timestamptz"].oid
    strict = connection.adapters.get_loader(oid, Format.TEXT)

    class LenientLoader(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = strict(oid, context).load

        def load(self, data: Any) -> datetime:
            try:
                found: datetime = self._load(data)
            except (DataError, ValueError, OverflowError):
                return UNKNOWN_TIME
            return found

    connection.adapters.register_loader(oid, LenientLoader)
