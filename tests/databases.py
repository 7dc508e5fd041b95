"""Databases of PostgreSQL for single tests: copies of a template, each used again if nothing is left in it.

A copy takes a few hundred files, and so more CPU time than most tests. To empty the tables that a test has written
takes a fraction of it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url

Connection = psycopg.Connection[tuple[str, ...]]
LOOKS, LOOK_EVERY = 25, 0.02
"""How often, and every how many seconds, a look is taken whether sessions that were closed have ended."""

_OWN = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
_WRITTEN = f"""
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND {_OWN} AND pg_relation_size(pg_class.oid) > 0
"""
_RESTART = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
FROM pg_sequences WHERE last_value IS NOT NULL
"""
_SESSIONS = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1
"""
_VOLATILE = """
CASE relkind WHEN 'i' THEN '{relfilenode, relpages, reltuples}'::text[]
  ELSE '{relfilenode, relfrozenxid, relminmxid}' END
"""
"""What emptying a table changes: its size counts as known again, that of its indexes as unknown."""
_CATALOG = f"""
WITH own AS (SELECT pg_class.* FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE {_OWN}),
facts AS (
  SELECT 'relation' AS kind, (to_jsonb(own) - ({_VOLATILE}))::text AS fact FROM own
  UNION ALL SELECT 'column', to_jsonb(pg_attribute)::text FROM pg_attribute WHERE attrelid IN (SELECT oid FROM own)
  UNION ALL SELECT 'index', to_jsonb(pg_index)::text FROM pg_index WHERE indrelid IN (SELECT oid FROM own)
  UNION ALL SELECT 'default', to_jsonb(pg_attrdef)::text FROM pg_attrdef
  UNION ALL SELECT 'constraint', to_jsonb(pg_constraint)::text FROM pg_constraint
    WHERE conrelid IN (SELECT oid FROM own)
  UNION ALL SELECT 'trigger', to_jsonb(pg_trigger)::text FROM pg_trigger
  UNION ALL SELECT 'rule', to_jsonb(pg_rewrite)::text FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM own)
  UNION ALL SELECT 'policy', to_jsonb(pg_policy)::text FROM pg_policy
  UNION ALL SELECT 'sequence', to_jsonb(pg_sequences)::text FROM pg_sequences
  UNION ALL SELECT 'function', to_jsonb(pg_proc)::text FROM pg_proc
    JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE {_OWN}
  UNION ALL SELECT 'type', to_jsonb(pg_type)::text FROM pg_type
    JOIN pg_namespace ON pg_namespace.oid = typnamespace WHERE {_OWN}
  UNION ALL SELECT 'schema', to_jsonb(pg_namespace)::text FROM pg_namespace WHERE {_OWN}
  UNION ALL SELECT 'extension', to_jsonb(pg_extension)::text FROM pg_extension
  UNION ALL SELECT 'privilege', to_jsonb(pg_default_acl)::text FROM pg_default_acl
  UNION ALL SELECT 'statistics', count(*)::text FROM pg_stats WHERE schemaname !~ '^pg_|^information_schema$'
  UNION ALL SELECT 'setting', to_jsonb(pg_db_role_setting)::text FROM pg_db_role_setting
    JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
  UNION ALL SELECT 'large object', oid::text FROM pg_largeobject_metadata
  UNION ALL SELECT 'database', concat(datdba, datacl, datconnlimit, datallowconn) FROM pg_database
    WHERE datname = current_database()
  UNION ALL SELECT 'session', pid::text FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
  UNION ALL SELECT 'prepared transaction', gid FROM pg_prepared_xacts WHERE database = current_database()
)
SELECT string_agg(kind || ': ' || fact, E'\\n' ORDER BY kind, fact) FROM facts
"""


class Databases:
    """Copies of a template, on one server."""

    def __init__(self, server: str, template: str) -> None:
        self._server, self._template = make_url(server), template
        self._admin: Engine = create_engine(server, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        self._spare: list[str] = []
        self._as_copied = ""
        """What a database holds that was just copied."""
        self._kept: set[tuple[str, ...]] = set()
        """The tables that have rows in the template."""

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of a database as the template is."""
        name = self._spare.pop() if self._spare else self._copy()
        yield self._url(name).render_as_string(hide_password=False)
        if self._emptied(name):
            self._spare.append(name)
        else:
            self._drop(name)

    def close(self) -> None:
        """Drop what is left."""
        while self._spare:
            self._drop(self._spare.pop())
        self._admin.dispose()

    def _copy(self) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with self._admin.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"'))
        if not self._as_copied:
            with self._connect(name) as connection:
                self._kept = {table for table in _written(connection) if _has_rows(connection, table)}
                self._as_copied = self._facts(connection)
        return name

    def _drop(self, name: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def _emptied(self, name: str) -> bool:
        """Empty the tables and restart the sequences; gives whether the database is as it was copied, and unused."""
        try:
            with self._connect(name) as connection:
                if not _is_left(connection):
                    return False
                if written := sorted(set(_written(connection)) - self._kept):
                    names = sql.SQL(", ").join(sql.Identifier(*table) for table in written)
                    connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
                connection.execute(_RESTART)
                return self._facts(connection) == self._as_copied
        except psycopg.Error:  # a test may have taken rights away, or somebody still holds a lock
            return False

    def _facts(self, connection: Connection) -> str:
        """All that a test can change, apart from rows that were emptied."""
        found = [str(connection.execute(_CATALOG).fetchall())]
        for table in sorted(self._kept):
            rows = sql.SQL("SELECT to_jsonb(kept)::text FROM {} AS kept ORDER BY 1").format(sql.Identifier(*table))
            found.append(str(connection.execute(rows).fetchall()))
        return "\n".join(found)

    def _connect(self, name: str) -> Connection:
        url = self._url(name).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url, autocommit=True, options="-c lock_timeout=1s -c statement_timeout=30s")

    def _url(self, name: str) -> URL:
        return self._server.set(database=name)


def _written(connection: Connection) -> list[tuple[str, ...]]:
    """Schema and name of the tables into which something was written, even if it was rolled back."""
    return connection.execute(_WRITTEN).fetchall()


def _has_rows(connection: Connection, table: tuple[str, ...]) -> bool:
    query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(*table))
    return connection.execute(query).fetchone() is not None


def _is_left(connection: Connection) -> bool:
    """Whether all other sessions have ended, or do so at once."""
    for _ in range(LOOKS):  # not until a time: a test may have put its own clock in place of the real one
        if connection.execute(_SESSIONS).fetchone() is None:
            return True
        time.sleep(LOOK_EVERY)
    return False
