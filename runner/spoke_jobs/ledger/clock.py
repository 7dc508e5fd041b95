"""The database's clock. Leases use it, because the clocks of processes on several machines differ."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, types
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import GenericFunction


class UTCDateTime(types.TypeDecorator[datetime]):
    """An aware datetime in UTC: ``timestamptz`` on PostgreSQL, text without a zone on SQLite. Refuses naive ones."""

    impl = DateTime(timezone=True)
    cache_ok = True

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
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def in_utc(value: datetime) -> datetime:
    """Convert a datetime from the driver, which is in the session's time zone, to UTC."""
    return value.astimezone(UTC)


class clock_now(GenericFunction[datetime]):  # noqa: N801 (an SQL function)
    """The time at which the database evaluates it; unlike ``now()``, not the start of the transaction."""

    type = UTCDateTime()
    inherit_cache = True
    name = "clock_now"


class clock_after(GenericFunction[datetime]):  # noqa: N801 (an SQL function)
    """``clock_after(seconds)``: that many seconds after :class:`clock_now`."""

    type = UTCDateTime()
    inherit_cache = True
    name = "clock_after"


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
    """The database's clock as :class:`spoke_jobs.ledger.transitions.Clock`."""

    def now(self) -> ColumnElement[datetime]:
        """See :class:`clock_now`."""
        return clock_now()

    def after(self, seconds: Any) -> ColumnElement[datetime]:
        """See :class:`clock_after`."""
        return clock_after(seconds)


DATABASE_CLOCK = DatabaseClock()
