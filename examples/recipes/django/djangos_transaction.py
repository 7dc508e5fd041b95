"""A SQLAlchemy session within Django's open transaction, on Django's connection. Django commits its writes.

The dialects below only borrow that connection. They never begin, commit, roll back or close anything on it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.db import connections, transaction
from sqlalchemy import DateTime, Dialect, Engine, NullPool, create_engine
from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.orm import Session


def session_in_transaction(using: str = "default") -> Session:
    """Return a session for dispatching within ``transaction.atomic()``. It ends with that block."""
    if not connections[using].in_atomic_block:
        raise RuntimeError("there is no transaction to dispatch in: open transaction.atomic() first")
    session = Session(_engine(using))
    # Django has committed now. Tell the session, so that after-commit effects follow this commit.
    transaction.on_commit(session.commit, using=using)
    return session


@cache
def _engine(using: str) -> Engine:
    vendor = connections[using].vendor
    return create_engine(f"{vendor}+django://", creator=lambda: connections[using].connection, poolclass=NullPool)


class _Borrowing:
    supports_statement_cache = True

    def on_connect(self) -> None:
        """Leave the connection as Django configured it."""

    def _leave_it_to_django(self, _connection: Any) -> None:
        pass

    do_begin = do_commit = do_rollback = do_close = do_terminate = _leave_it_to_django


class DjangoPostgres(_Borrowing, PGDialect_psycopg):
    """PostgreSQL on Django's connection (psycopg 3)."""

    supports_statement_cache = True


class _Time(sqlite.DATETIME):
    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        from_text: Any = super().result_processor(dialect, coltype)
        return lambda value: from_text(value) if isinstance(value, str) else value  # Django lets the driver convert it


class DjangoSQLite(_Borrowing, SQLiteDialect_pysqlite):
    """SQLite on Django's connection."""

    supports_statement_cache = True
    colspecs = SQLiteDialect_pysqlite.colspecs | {DateTime: _Time}


registry.register("postgresql.django", __name__, "DjangoPostgres")
registry.register("sqlite.django", __name__, "DjangoSQLite")
