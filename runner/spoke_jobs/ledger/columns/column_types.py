"""Types of columns, and SQL functions for their defaults.

Other code may have written a row with texts of any size. A type therefore bounds what a statement reads of its columns,
in the database, so that no such row takes the memory of a process that reads it.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Dialect,
    Integer,
    Label,
    Text,
    Uuid,
    case,
    cast,
    func,
    literal_column,
    types,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from spoke_jobs.ledger.columns.lenient import read_count, read_number, read_text, read_uid
from spoke_jobs.shared.clean_text import storable

TEXT_LIMIT_BYTES = 8_000
"""How much is read of a text unless its column says otherwise. The longest that the ledger writes, a message of 2,000
characters, fits."""
JSON_LIMIT_BYTES = 128_000
"""The largest JSON that is read, unless its column says otherwise. A job's result of 64 kB fits, as the database has
it: with a space after each comma."""


class byte_length(GenericFunction[int]):  # noqa: N801 (an SQL function)
    """The bytes of a text. The database does not read the text for it, except SQLite before 3.43."""

    type = Integer()
    inherit_cache = True
    name = "byte_length"


@compiles(byte_length)
def _byte_length(element: Any, compiler: Any, **keywords: Any) -> str:
    plain = compiler.dialect.name == "sqlite" and sqlite3.sqlite_version_info < (3, 43)
    return f"{'length' if plain else 'octet_length'}({compiler.process(element.clauses, **keywords)})"


class is_json_within(GenericFunction[bool]):  # noqa: N801 (an SQL function)
    """``is_json_within(column, bytes)``: whether JSON takes at most so many bytes.

    PostgreSQL has to read JSON for it. It keeps large JSON compressed, and knows the size of that without reading it.
    """

    type = types.Boolean()
    inherit_cache = True
    name = "is_json_within"


@compiles(is_json_within)
def _is_json_within(element: Any, compiler: Any, **keywords: Any) -> str:
    value, limit = (compiler.process(clause, **keywords) for clause in element.clauses)
    length = compiler.process(byte_length(cast(next(iter(element.clauses)), Text)), **keywords)
    if compiler.dialect.name == "sqlite":
        return f"{length} <= {limit}"
    return f"CASE WHEN pg_column_size({value}) <= {limit} THEN {length} <= {limit} END"


class StorableText(types.TypeDecorator[str]):
    """Text without the characters that PostgreSQL refuses, wherever it came from.

    :param limit_bytes: how much of it is read.
    :param whole: read NULL in place of a longer text, rather than its beginning.
    """

    impl = Text
    cache_ok = True

    def __init__(self, limit_bytes: int = TEXT_LIMIT_BYTES, *, whole: bool = False) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.whole = whole

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return what a statement reads of the column."""
        short = byte_length(column) <= literal_column(str(self.limit_bytes))
        if self.whole:
            return case((short, column))
        # No character takes more than four bytes.
        beginning = func.substr(column, literal_column("1"), literal_column(str(self.limit_bytes // 4)))
        return case((short, column), else_=beginning)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Convert for the database."""
        return None if value is None else storable(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return the function that reads a value."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else read_text


class StoredJson(types.TypeDecorator[Any]):
    """JSON. What is larger than its limit is read as NULL."""

    impl = JSON
    cache_ok = True

    def __init__(self, limit_bytes: int = JSON_LIMIT_BYTES, *, none_as_null: bool = False) -> None:
        super().__init__(none_as_null=none_as_null)
        self.limit_bytes = limit_bytes
        self.none_as_null = none_as_null

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return what a statement reads of the column."""
        return case((is_json_within(column, literal_column(str(self.limit_bytes))), column))


def as_read(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return what a statement reads of a column, for SQL text. SQLAlchemy's own statements contain it already."""
    kind, plain = column.type, column.element if isinstance(column, Label) else column
    return kind.column_expression(plain) if isinstance(kind, StorableText | StoredJson) else plain


class Count(Integer):
    """A whole number that is never NULL; any other value is read as 0 (SQLite)."""

    cache_ok = True

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Return the function that reads a value."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else read_count


class Number(Integer):
    """A whole number or NULL; any other value is read as NULL (SQLite)."""

    cache_ok = True

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Return the function that reads a value."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else read_number


class LargeNumber(BigInteger):
    """Like :class:`Number`, of 64 bits."""

    cache_ok = True

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Return the function that reads a value."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else read_number


class Uid(Uuid[UUID]):
    """A UUID; text that is none is read as :data:`~spoke_jobs.ledger.columns.lenient.UNKNOWN_UID` (SQLite)."""

    cache_ok = True

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Return the function that reads a value."""
        if dialect.name == "postgresql":
            return super().result_processor(dialect, coltype)  # type: ignore[no-untyped-call]
        return read_uid


class random_uuid(GenericFunction[UUID]):  # noqa: N801 (an SQL function)
    """A new UUID, for rows that other code inserts."""

    type = Uuid()
    inherit_cache = True
    name = "random_uuid"


@compiles(random_uuid)
def _random_uuid(element: Any, compiler: Any, **_: Any) -> str:
    if compiler.dialect.name != "sqlite":
        return "gen_random_uuid()"
    parts = ("hex(randomblob(6))", "'4'", "substr(hex(randomblob(2)), 2)", "'8'", "substr(hex(randomblob(8)), 2)")
    return f"lower({' || '.join(parts)})"


class no_options(GenericFunction[Any]):  # noqa: N801 (an SQL function)
    """The options of rows that other code inserts: none yet."""

    type = JSON()
    inherit_cache = True
    name = "no_options"


@compiles(no_options)
def _no_options(element: Any, compiler: Any, **_: Any) -> str:
    return "'{}'" if compiler.dialect.name == "sqlite" else "'{}'::json"
