"""The database's clock. Leases use it, because the clocks of processes on several machines differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, select, types
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import GenericFunction

from spoke_jobs.ledger.columns.lenient import in_utc, read_sqlite_time

LONGEST_WAIT_SECONDS = 366 * 86_400.0
"""The longest wait that metrics count. Other code may have written any time into a row."""


def waited_seconds(since: datetime, now: datetime) -> float:
    """Return for how long something has waited, as metrics count it."""
    return min(max((now - since).total_seconds(), 0.0), LONGEST_WAIT_SECONDS)


class _SQLiteTime(sqlite.DATETIME):
    """Text, as SQLAlchemy writes it; other code may have written another form."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return the function that reads a value."""
        return read_sqlite_time


class UTCDateTime(types.TypeDecorator[datetime]):
    """An aware datetime in UTC: ``timestamptz`` on PostgreSQL, text without a zone on SQLite. Not for naive ones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Choose the type of a database."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_SQLiteTime())  # type: ignore[no-untyped-call]
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert for the database."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(
                "a naive datetime was given to the ledger: give it a time zone, datetime.now(UTC) for example"
            )
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert from the database."""
        if value is None or dialect.name == "sqlite":
            return value
        return in_utc(value)


class clock_now(GenericFunction[datetime]):  # noqa: N801 (an SQL function)
    """The time at which the database evaluates the expression; ``now()`` would be the start of the transaction."""

    type = UTCDateTime()
    inherit_cache = True
    name = "clock_now"


_NOW = select(clock_now())  # built once: claims read the clock


def read_clock(connection: Connection) -> datetime:
    """Read the database's time."""
    return connection.execute(_NOW).scalar_one()


class clock_after(GenericFunction[datetime]):  # noqa: N801 (an SQL function)
    """``clock_after(seconds)``: that many seconds after :class:`clock_now`."""

    type = UTCDateTime()
    inherit_cache = True
    name = "clock_after"


class beginning(GenericFunction[datetime]):  # noqa: N801 (an SQL constant)
    """A time that is before all others."""

    type = UTCDateTime()
    inherit_cache = True
    name = "beginning"


@compiles(beginning)
def _beginning(element: ColumnElement[Any], compiler: Any, **_: Any) -> str:
    return "''" if compiler.dialect.name == "sqlite" else "'-infinity'::timestamp with time zone"


@compiles(clock_now)
def _now(element: ColumnElement[Any], compiler: Any, **_: Any) -> str:
    # SQLAlchemy stores datetimes on SQLite as text with six decimals. With the same format, texts compare like times.
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))" if compiler.dialect.name == "sqlite" else "clock_timestamp()"


@compiles(clock_after)
def _after(element: Any, compiler: Any, **keywords: Any) -> str:
    seconds = compiler.process(element.clauses, **keywords)
    if compiler.dialect.name == "sqlite":
        return f"(strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds'))"
    return f"(clock_timestamp() + make_interval(secs => ({seconds})::double precision))"


class DatabaseClock:
    """The database's clock as :class:`spoke_jobs.ledger.lifecycle.transitions.Clock`."""

    def now(self) -> ColumnElement[datetime]:
        """See :class:`clock_now`."""
        return clock_now()

    def after(self, seconds: Any) -> ColumnElement[datetime]:
        """See :class:`clock_after`."""
        return clock_after(seconds)


DATABASE_CLOCK = DatabaseClock()


@dataclass(frozen=True, slots=True)
class FixedClock:
    """One time for a whole transition, for the ledger in memory."""

    time: datetime

    def now(self) -> datetime:
        """Return the time."""
        return self.time

    def after(self, seconds: float | None) -> datetime | None:
        """Return the time ``seconds`` later."""
        return None if seconds is None else self.time + timedelta(seconds=seconds)
