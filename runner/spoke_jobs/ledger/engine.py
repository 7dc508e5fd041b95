"""Engines for the ledger's database, and the check of its schema."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
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

from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseRefused, DatabaseUnreachable
from spoke_jobs.ledger.columns.lenient import read_json, use_lenient_times
from spoke_jobs.ledger.tables import SCHEMA, VERSION_TABLE, job_request, sql_name
from spoke_jobs.settings import schema_of_environment
from spoke_jobs.shared.secret_file import Secret, SecretFile, value_of

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
_TOO_MANY_CONNECTIONS = "53300"
_LACKING_STATES = ("53100", "53200")
"""PostgreSQL's disk_full and out_of_memory (also of the memory for locks, which all sessions share)."""
_REFUSALS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|is not permitted to log in"
    r"|(role|database) \S+ does not exist|no such (user|database)|server login failed"
)
"""What PostgreSQL and PgBouncer say when they refuse a connection. libpq reports no SQLSTATE for it."""
_INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's code for a statement for which the role lacks a privilege."""
_LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's code for a statement that `lock_timeout` has ended."""
_QUERY_CANCELED = "57014"
"""PostgreSQL's code for a statement that `statement_timeout` has ended."""
_SQLITE_LOCKED = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html), the primary result codes."""
_NO_URL = (
    "SPOKE_DATABASE_URL isn't a valid database URL: write it as sqlite:///jobs.sqlite3 or "
    "postgresql+psycopg://user:password@host/name"
)
_READ_COMMITTED = (
    "SELECT set_config('default_transaction_isolation', 'read committed', false) "
    "WHERE current_setting('default_transaction_isolation') <> 'read committed'"
)
"""Changes nothing where it is the default already: behind a pooler, other applications may have the session later."""
_USED = "spoke_used"
_URL = "spoke_url"
_POOL = "spoke_pool"

logger = logging.getLogger(__name__)


def create_engine(url: URL | Secret, *, prepares: bool = False, **options: Any) -> Engine:
    """Create an engine for the ledger's database: SQLite in a file, or PostgreSQL with psycopg 3.

    Its errors show no parameters, because parameters contain payloads and errors end up in logs.
    ``hide_parameters=False`` shows them.

    An application may use this engine for its own sessions as well. On SQLite, transactions lock correctly only on this
    engine, or on another one that was passed to :func:`configure_sqlite`.

    :param url: the URL, or the file that contains it. The file is read again for each new connection.
    :param prepares: for a process that sends the same few statements all the time: prepare each at its first use, not
        at its sixth, as psycopg does (PostgreSQL).
    :raises ConfigurationError: if the URL is not usable.
    """
    parsed = _parsed(value_of(url) if isinstance(url, str | SecretFile) else url)
    options = {"hide_parameters": True, "json_deserializer": read_json} | options
    try:
        if parsed.get_backend_name() == "sqlite":
            if SCHEMA:
                raise ConfigurationError(
                    f"SPOKE_SCHEMA={SCHEMA} needs PostgreSQL: with SQLite, give each application a file of its own"
                )
            return configure_sqlite(_read_any_text(_close_when_disposed(sqlalchemy_create_engine(parsed, **options))))
        options = _postgresql_options(options, prepares)
        engine = _configure_postgresql(_close_when_disposed(sqlalchemy_create_engine(parsed, **options)))
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the database needs the Python package {error.name!r}: pip install 'spoke-jobs[postgres]'"
        ) from None
    except ValueError:  # a parameter of the URL
        raise ConfigurationError(_NO_URL) from None
    return _follow(engine, url, parsed, options["connect_args"]) if isinstance(url, SecretFile) else engine


def _parsed(url: str | URL) -> URL:
    """Return the URL with the driver that the ledger uses.

    :raises ConfigurationError: if it is not usable.
    """
    if not str(url):
        raise ConfigurationError(
            "SPOKE_DATABASE_URL is not set: set it to a URL such as sqlite:///jobs.sqlite3 or "
            "postgresql+psycopg://user:password@host/name"
        )
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if "@" in (parsed.host or ""):  # the end of the password would be in messages, as a part of the host's name
            raise ConfigurationError(f"{_NO_URL}. In a password, write @ as %40")
        if backend == "postgresql":
            return parsed if parsed.get_driver_name() == "psycopg" else parsed.set(drivername="postgresql+psycopg")
    except (ArgumentError, NoSuchModuleError, ValueError):  # ValueError: the port is not a number
        raise ConfigurationError(_NO_URL) from None
    if backend != "sqlite":
        raise ConfigurationError(
            f"SPOKE_DATABASE_URL names a {backend} database: the ledger takes sqlite or postgresql"
        )
    if parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "SPOKE_DATABASE_URL names an SQLite database in memory, which other connections can't see: "
            "name a file, sqlite:///jobs.sqlite3 for example"
        )
    return parsed.set(drivername="sqlite+pysqlite")


def _follow(engine: Engine, file: SecretFile, url: URL, connect_args: Mapping[str, Any]) -> Engine:
    """Open connections with the URL that the file has at that time, and close pooled ones that have an earlier URL."""
    seen = (file.read(), url)

    def current() -> URL:
        nonlocal seen
        content, last = seen
        if (now := file.read()) != content:
            try:
                found = _parsed(now)
                reason = "" if found.get_backend_name() == "postgresql" else "it names no PostgreSQL database"
            except ConfigurationError as error:
                reason = str(error)
            if reason:
                logger.error("%s has no usable URL; the last one stays in use: %s", file.path, reason)
                found = last
            seen = (now, found)
        return seen[1]

    @event.listens_for(engine, "do_connect")
    def on_do_connect(dialect: Any, record: Any, arguments: list[Any], parameters: dict[str, Any]) -> None:
        record.info[_URL] = current()
        arguments[:], named = dialect.create_connect_args(record.info[_URL])
        parameters.clear()
        parameters.update(named | connect_args)

    @event.listens_for(engine, "checkout")
    def on_checkout(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info[_URL] != current():
            raise DisconnectionError("the database's URL has changed")  # the pool then opens another connection

    return engine


def shown(url: URL) -> str:
    """Format a URL for messages, without the password and the values of the query, which may be secrets."""
    query = "&".join(f"{name}=***" for name in url.query)
    return url.set(query={}).render_as_string(hide_password=True) + (f"?{query}" if query else "")


def place(url: URL) -> str:
    """Format where a ledger is, for messages: the URL, and the schema if one is set."""
    return f"{shown(url)} (schema {SCHEMA})" if SCHEMA else shown(url)


def _postgresql_options(options: dict[str, Any], prepares: bool) -> dict[str, Any]:
    # Detect a lost peer within half a minute; the kernel's defaults take hours.
    connect = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        **({"prepare_threshold": 0} if prepares else {}),
    } | options.pop("connect_args", {})
    # A claim under limits locks them, and then counts what has started meanwhile: its second statement must see that.
    # The database's own default may be another.
    return {"connect_args": connect, "isolation_level": "READ COMMITTED"} | options


def _close_when_disposed(engine: Engine) -> Engine:
    """Close a connection that another thread returns after ``engine.dispose()``: nobody closes its pool any more.

    Also one that the thread was opening meanwhile.
    """

    @event.listens_for(engine, "do_connect")
    def on_do_connect(_dialect: Any, record: Any, _arguments: Any, _parameters: Any) -> None:
        record.info[_POOL] = engine.pool  # before it connects: the engine may have another pool when it has

    @event.listens_for(engine, "checkin")
    def on_checkin(connection: Any, record: Any) -> None:
        if connection is not None and record.info[_POOL] is not engine.pool:
            record.close()

    return engine


def _read_any_text(engine: Engine) -> Engine:
    """Read text that is not UTF-8, too. SQLite does not check what other code writes."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.text_factory = lambda data: str(data, "utf-8", "replace")

    return engine


def _configure_postgresql(engine: Engine) -> Engine:
    """Read all times, and ping a pooled connection before its use, unless it was used within the last second."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        use_lenient_times(connection)
        # SQLAlchemy's isolation_level is that of transactions. A statement that is its own transaction has the default.
        before, connection.autocommit = connection.autocommit, True
        connection.execute(_READ_COMMITTED)
        connection.autocommit = before

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

    A server that lacks memory, disk space or connections counts as unavailable, because another session may use them
    up, also one of another application. An SQLite file counts as unavailable if another transaction holds its lock for
    longer than the busy timeout.
    """
    return is_unreachable(error) or _sqlstate(error).startswith(_LACKING_STATES)


def is_unreachable(error: DBAPIError) -> bool:
    """Like :func:`is_away`, but for statements that a job itself may have made too large.

    Memory and disk space may be what its own statement has used up.
    """
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in _SQLITE_LOCKED
    if getattr(error.orig, "sqlstate", "") is None:
        return True
    return _sqlstate(error).startswith((*_AWAY_STATES, _TOO_MANY_CONNECTIONS))


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def is_locked(error: Exception) -> bool:
    """Whether the statement waited too long for a lock of another transaction (PostgreSQL, with `lock_timeout`)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def is_timed_out(error: Exception) -> bool:
    """Whether the statement took longer than it may (PostgreSQL, with `statement_timeout`)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _QUERY_CANCELED


def is_not_allowed(error: Exception) -> bool:
    """Whether the role lacks a privilege on a table (PostgreSQL)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE


def refuses(error: DBAPIError) -> bool:
    """Whether the server refused the user, the password or the database's name. :func:`is_away` holds for it, too."""
    return isinstance(error, OperationalError) and _REFUSALS.search(str(error.orig)) is not None


def check_schema(engine: Engine) -> None:
    """Check that the ledger's tables exist and fit this release.

    :raises DatabaseUnreachable: if the database doesn't answer, or refuses the connection.
    :raises DatabaseNotMigrated: if the tables are missing, can't be read, or belong to a migration that this release
        does not work with.
    """
    named = schema_of_environment()
    if named is not None and named != SCHEMA:
        raise ConfigurationError(
            f"SPOKE_SCHEMA={named} was set after the process had imported spoke_jobs, which uses "
            f"{f'the schema {SCHEMA}' if SCHEMA else 'the default schema'}: set it before the process starts"
        )
    where = place(engine.url)
    if _names_no_file(engine.url):  # connecting would create it
        raise DatabaseNotMigrated(
            f"{where} has no ledger yet: run `spoke-jobs migrate`, which makes the file, or correct the URL"
        )
    try:
        with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            if not inspect(connection).has_table(VERSION_TABLE, schema=SCHEMA):
                raise DatabaseNotMigrated(f"{where} has no ledger yet: run `spoke-jobs migrate`")
            version = connection.scalar(text(f"SELECT version_num FROM {sql_name(VERSION_TABLE)}"))  # noqa: S608 (a constant)
            if not serves(version):
                raise DatabaseNotMigrated(
                    f"the ledger in {where} is at migration {version}, this release needs {SCHEMA_VERSION}: "
                    "run `spoke-jobs migrate`, or install a release that works with this migration"
                )
            connection.execute(select(job_request.c.id).limit(1))
    except DBAPIError as error:
        if refuses(error):
            raise DatabaseRefused(f"the database {where} refuses the connection: {reason_of(error)}") from None
        if is_away(error) or isinstance(error, OperationalError):
            raise DatabaseUnreachable(f"the database {where} can't be reached: {reason_of(error)}") from None
        raise DatabaseNotMigrated(f"the ledger in {where} can't be read: {reason_of(error)}") from None


def serves(version: str | None) -> bool:
    """Whether this release works with a database at this migration."""
    return version is not None and version[:2] == SCHEMA_VERSION[:2] and version >= SCHEMA_VERSION


def _names_no_file(url: URL) -> bool:
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return False
    return not Path(url.database).exists()


def reason_of(error: DBAPIError) -> str:
    """Return the first line of the driver's message, or the error's class if it is empty.

    PostgreSQL names the values of a row on a later line. Some first lines have values nevertheless, such as that of an
    invalid input. Where such errors can occur, use this for those that are :func:`is_away` only.
    """
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__
