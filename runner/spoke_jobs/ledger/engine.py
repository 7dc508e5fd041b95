"""Engines for the ledger's database, and the check of its schema."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect, select, text
from sqlalchemy import create_engine as sqlalchemy_create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)

from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.ledger.tables import VERSION_TABLE, job_request

READ_ONLY = "spoke_read_only"
"""Execution option: on SQLite, begin a transaction without the write lock."""
_VERSIONS = Path(__file__).parent / "migrations" / "versions"
SCHEMA_VERSION = max(path.name[:4] for path in _VERSIONS.glob("[0-9]*.py"))
"""The newest migration, read from the file names so that start-up does not import Alembic.

Its first two digits are its series. Within a series, migrations only add. A release therefore works with every later
migration of its series: it can run while the next release is rolled out, and after a rollback.
"""
_SQLITE_WAIT_MILLISECONDS = 10_000
_IDLE_SECONDS = 1.0
_AWAY_STATES = ("08", "57P")
"""PostgreSQL's classes of connection errors, and of errors of a server that stops or starts."""
_SQLITE_LOCKED = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html), the primary result codes."""
_USED = "spoke_used"


def create_engine(url: str | URL, **options: Any) -> Engine:
    """Create an engine for the ledger's database: SQLite in a file, or PostgreSQL with psycopg 3.

    Its errors show no parameters, because parameters contain payloads and errors end up in logs.
    ``hide_parameters=False`` shows them.

    An application may use this engine for its own sessions as well. On SQLite, transactions lock correctly only on this
    engine, or on another one that was passed to :func:`configure_sqlite`.

    :raises ConfigurationError: if the URL is not usable.
    """
    if not str(url):
        raise ConfigurationError(
            "SPOKE_DATABASE_URL is not set: sqlite:///jobs.sqlite3, or postgresql+psycopg://user:password@host/name"
        )
    options = {"hide_parameters": True} | options
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend == "postgresql":
            if parsed.get_driver_name() != "psycopg":
                parsed = parsed.set(drivername="postgresql+psycopg")
            return _ping_idle(sqlalchemy_create_engine(parsed, **_postgresql_options(options)))
        if backend == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise ConfigurationError(
                    "SPOKE_DATABASE_URL names an SQLite database in memory, which other connections can't see: "
                    "name a file, sqlite:///jobs.sqlite3 for example"
                )
            return configure_sqlite(sqlalchemy_create_engine(parsed.set(drivername="sqlite+pysqlite"), **options))
    except (ArgumentError, NoSuchModuleError, ValueError):  # ValueError: the port is not a number
        raise ConfigurationError(
            "SPOKE_DATABASE_URL isn't a database URL: sqlite:///jobs.sqlite3, or "
            "postgresql+psycopg://user:password@host/name"
        ) from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the database needs the Python package {error.name!r}: pip install 'spoke-jobs[postgres]'"
        ) from None
    raise ConfigurationError(f"SPOKE_DATABASE_URL names a {backend} database: the ledger takes sqlite or postgresql")


def shown(url: URL) -> str:
    """Format a URL for messages, without the password and the values of the query, which may be secrets."""
    query = "&".join(f"{name}=***" for name in url.query)
    return url.set(query={}).render_as_string(hide_password=True) + (f"?{query}" if query else "")


def _postgresql_options(options: dict[str, Any]) -> dict[str, Any]:
    # Detect a lost peer within half a minute; the kernel's defaults take hours.
    connect = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    } | options.pop("connect_args", {})
    return {"connect_args": connect} | options


def _ping_idle(engine: Engine) -> Engine:
    """Ping a pooled connection before it is used, unless it was used within the last second."""

    @event.listens_for(engine, "checkin")
    def on_checkin(_connection: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(_USED, time.monotonic()) < _IDLE_SECONDS:
            return
        try:
            alive = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            alive = False
        if not alive:
            raise DisconnectionError("the connection ended while it was idle")  # the pool then opens another

    return engine


def configure_sqlite(engine: Engine) -> Engine:
    """Configure an SQLite engine for a ledger: WAL, and BEGIN IMMEDIATE.

    The driver itself begins transactions too late: a SAVEPOINT's rows survive the rollback of the outer transaction.
    Without IMMEDIATE, a transaction that first reads and then writes may fail.
    """

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_WAIT_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # a commit survives a crash of the machine, as on PostgreSQL
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def is_away(error: DBAPIError) -> bool:
    """Whether the error means that the database is unavailable, rather than that it refused the statement.

    An SQLite file counts as unavailable if another transaction holds its lock for longer than the busy timeout.
    """
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in _SQLITE_LOCKED
    state: str | None = getattr(error.orig, "sqlstate", "")
    return state is None or state.startswith(_AWAY_STATES)


def check_schema(engine: Engine) -> None:
    """Check that the ledger's tables exist and fit this release.

    :raises DatabaseUnreachable: if the database doesn't answer.
    :raises DatabaseNotMigrated: if they don't. The message names the command that migrates the database.
    """
    where = shown(engine.url)
    if _names_no_file(engine.url):  # connecting would create it
        raise DatabaseNotMigrated(
            f"{where} has no ledger yet: run `spoke-jobs migrate`, which makes the file, or correct the URL"
        )
    try:
        with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            if not inspect(connection).has_table(VERSION_TABLE):
                raise DatabaseNotMigrated(f"{where} has no ledger yet: run `spoke-jobs migrate`")
            version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
            if not serves(version):
                raise DatabaseNotMigrated(
                    f"the ledger in {where} is at migration {version}, this release needs {SCHEMA_VERSION}: "
                    "run `spoke-jobs migrate`, or install the release that the database is at"
                )
            connection.execute(select(job_request.c.id).limit(1))
    except OperationalError as error:
        raise DatabaseUnreachable(f"the database {where} can't be reached: {_first_line(error)}") from None
    except DBAPIError as error:
        raise DatabaseNotMigrated(f"the ledger in {where} can't be read: {_first_line(error)}") from None


def serves(version: str | None) -> bool:
    """Whether this release works with a database at this migration."""
    return version is not None and version[:2] == SCHEMA_VERSION[:2] and version >= SCHEMA_VERSION


def _names_no_file(url: URL) -> bool:
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return False
    return not Path(url.database).exists()


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
