"""PostgreSQL databases with the ledger's tables, which tests use one after another.

A copy of the template and its removal take ten times the CPU time of a test's own statements. So a database whose
catalogs a test left as they were is emptied, and the next test gets it. It gets it under another name: what a test left
running fails to connect, as after the removal.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.tables import VERSION_TABLE, metadata

_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_default_acl", "pg_depend", "pg_event_trigger"),
    *("pg_extension", "pg_index", "pg_inherits", "pg_namespace", "pg_policy", "pg_proc", "pg_publication"),
    *("pg_rewrite", "pg_sequence", "pg_statistic_ext", "pg_trigger", "pg_type"),
)
"""What DDL and grants write to: they add rows, remove rows or give them a newer ``xmin``."""
_ROWS = ", ".join(f"(SELECT count(*) || '/' || sum(xmin::text::bigint) FROM {name})" for name in _CATALOGS)
_STATE = f"""
SELECT array[{_ROWS}]::text,
  (SELECT sum(relpages) || '/' || sum(reltuples) FROM pg_class WHERE oid >= 16384),
  (SELECT row(datdba, datallowconn, datistemplate, datconnlimit, datacl)::text FROM pg_database
     WHERE datname = current_database()),
  (SELECT count(*) FROM pg_db_role_setting AS setting JOIN pg_database ON pg_database.oid = setdatabase
     WHERE datname = current_database()),
  (SELECT count(*) FROM pg_largeobject_metadata),
  (SELECT array_agg(version_num)::text FROM {VERSION_TABLE})
"""
"""All but the rows of the ledger's tables and the values of its sequences."""
_GROWTH = 2**20
"""By how many bytes a database may be larger than the template. Large ones are slower to empty than to copy."""
_EMPTY = ";\n".join(
    [
        "SET lock_timeout = '10s'",
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        """SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence
           WHERE pg_sequence_last_value(seqrelid) IS NOT NULL""",
    ]
)


class LedgerDatabases:
    """The databases that one test process has made from its template."""

    def __init__(self, server: str, template: str) -> None:
        """:param template: the name of a migrated database to which nobody is connected."""
        self._server, self._template = make_url(server), template
        self._unused: list[str] = []
        with self._connected(template) as connection:
            self._state, self._size = _state(connection), _size(connection)

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Lend an empty database to a test, by its URL."""
        name = self._unused.pop() if self._unused else self._copied(self._template)
        yield self._url(name).render_as_string(hide_password=False)
        self._take_back(name)

    @contextmanager
    def copied(self, url: str) -> Iterator[str]:
        """Copy a large one to which nobody is connected, and drop the copy at the end."""
        name = self._copied(str(make_url(url).database), "STRATEGY FILE_COPY")
        yield self._url(name).render_as_string(hide_password=False)
        self._drop(name)

    def close(self) -> None:
        """Drop the databases."""
        while self._unused:
            self._drop(self._unused.pop())

    def _copied(self, template: str, how: str = "") -> str:
        name = _new_name()
        with self._connected() as admin:
            admin.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {how}'))
        return name

    def _drop(self, name: str) -> None:
        with self._connected() as admin:
            admin.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def _take_back(self, name: str) -> None:
        renamed = _new_name()
        try:
            with self._connected() as admin:
                admin.execute(_END_SESSIONS, {"name": name})
                admin.execute(text(f'ALTER DATABASE "{name}" RENAME TO "{renamed}"'))
        except DBAPIError:  # somebody connects again and again
            self._drop(name)
            return
        if self._is_emptied(renamed):
            self._unused.append(renamed)
        else:
            self._drop(renamed)

    def _is_emptied(self, name: str) -> bool:
        """Empty a database. Return False if a copy of the template is the only way to have one as it was."""
        try:
            with self._connected(name) as connection:
                if _state(connection) != self._state or _size(connection) > self._size + _GROWTH:
                    return False
                connection.exec_driver_sql(_EMPTY)
                return True
        except DBAPIError:  # nobody may connect, or a prepared transaction holds rows
            return False

    @contextmanager
    def _connected(self, name: str | None = None) -> Iterator[Connection]:
        """Connect to one of the databases, or to the server's own."""
        engine = create_engine(self._url(name), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def _url(self, name: str | None) -> URL:
        return self._server.set(database=name) if name else self._server


@contextmanager
def empty_database(server: str) -> Iterator[URL]:
    """Create a database without tables, and drop it at the end."""
    name, admin = _new_name(), create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    yield make_url(server).set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


_END_SESSIONS = text("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :name")


def _new_name() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


def _state(connection: Connection) -> tuple[object, ...]:
    return tuple(connection.exec_driver_sql(_STATE).one())


def _size(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
