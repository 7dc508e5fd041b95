"""The ledger's migrations. ``spoke-jobs migrate`` runs them, independently of the application's own migrations."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError

from spoke_jobs.errors import DatabaseUnreachable, MigrationRefused
from spoke_jobs.ledger.access.privileges import Comparison, Process, compare
from spoke_jobs.ledger.access.privileges import statements as grant_statements
from spoke_jobs.ledger.access.role_privileges import held_privileges, locate
from spoke_jobs.ledger.engine import SCHEMA_VERSION, is_locked, place, reason_of, serves
from spoke_jobs.ledger.sql.lock_patience import limit_waits
from spoke_jobs.ledger.tables import SCHEMA, VERSION_TABLE, sql_name
from spoke_jobs.shared.backoff import Backoff

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 1.0
"""How long one statement of a migration waits for a lock on PostgreSQL. While it waits, all others that write the table
wait behind it: heartbeats, claims and dispatches."""
_PATIENCE_SECONDS = 480.0
"""For how long a migration is retried. Helm waits for ten minutes."""
_BETWEEN_TRIES = Backoff(base=1.0, maximum=10.0)
Roles = Mapping[Process, str]
"""The role of each kind of process."""
NO_ROLES: Roles = MappingProxyType({})
_COUNT_RUNNING = f"SELECT count(*) FROM {sql_name('job_attempt')} WHERE state = 'running'"  # noqa: S608 (a constant)
Migration = Callable[[Any, Connection], None]
"""Runs Alembic with a configuration that has the connection."""


def migrate(
    engine: Engine,
    revision: str = "head",
    *,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    roles: Roles = NO_ROLES,
) -> None:
    """Migrate the ledger to a revision, in one transaction.

    Leave a ledger at a later revision unchanged, if this release works with it. If another transaction has locked a
    table, roll back and try again later.

    :param lock_timeout_seconds: on PostgreSQL, how long one try waits for a lock.
    :param roles: give these roles exactly the privileges that their processes need, in the same transaction.
    :raises DatabaseUnreachable: if the database doesn't answer, or the lock is not released.
    :raises MigrationRefused: if a table of another program has one of the ledger's names, or the reference's own
        migrations come first.
    """
    # Imported here because no other process needs Alembic.
    from alembic import command

    def upgrade(config: Any, connection: Connection) -> None:
        if revision != "head" or not _is_ahead(connection):
            command.upgrade(config, revision)
        for statement in _grants(connection, roles):
            connection.exec_driver_sql(statement)

    _in_transaction(engine, upgrade, lock_timeout_seconds)


def downgrade(engine: Engine, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Remove what the ledger added, so that `job_request` is again as the reference made it.

    Waiting and failed jobs stay, successful ones are deleted: the reference would show them as pending.

    :raises MigrationRefused: if there is no ledger of this release, or a job is running; also as :func:`migrate`.
    """
    from alembic import command

    def remove(config: Any, connection: Connection) -> None:
        _check_that_nothing_runs(connection)
        command.downgrade(config, "base")
        connection.execute(text(f"DROP TABLE {sql_name(VERSION_TABLE)}"))

    _in_transaction(engine, remove, lock_timeout_seconds)


def differences(engine: Engine, roles: Roles) -> dict[str, Comparison]:
    """Compare what each role has with what its process needs.

    :raises DatabaseError: if there is no such role.
    """
    with _errors_of(engine), engine.connect() as connection:
        return {role: compare(process, held_privileges(connection, role)) for process, role in roles.items()}


def statements(engine: Engine, *, down: bool = False, roles: Roles = NO_ROLES) -> list[str]:
    """Return the SQL that :func:`migrate` or :func:`downgrade` would run now. Lock and change nothing."""
    with _errors_of(engine), engine.connect() as connection:
        schema = _use_schema(connection, create=False)
        version = _version(connection)
        if down:
            _check_that_nothing_runs(connection)
        grants = _grants(connection, roles)
        if not down and _is_ahead(connection):
            found, begin = [], ["BEGIN"]
        elif engine.dialect.name == "sqlite":
            found = _on_a_copy(connection, down)
            begin = ["PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE"]
        else:
            found = _offline(connection, f"{version or 'base'}:{'base' if down else 'head'}", down)
            found += [f"DROP TABLE {VERSION_TABLE}"] if down else []
            begin = ["BEGIN", *schema]
    found += grants
    return [*begin, *found, "COMMIT"] if found else []


def _in_transaction(engine: Engine, run: Migration, lock_timeout_seconds: float) -> None:
    begun, tries = time.monotonic(), 0
    with _errors_of(engine):
        while True:
            try:
                with engine.connect() as connection, _without_foreign_keys(connection), connection.begin():
                    if connection.dialect.name == "postgresql":
                        limit_waits(connection, lock_timeout_seconds)
                    _exclude_others(connection)
                    _use_schema(connection, create=True)
                    run(_config(connection, lock_timeout_seconds=lock_timeout_seconds), connection)
            except OperationalError as error:
                if not is_locked(error) or time.monotonic() - begun > _PATIENCE_SECONDS:
                    raise
                tries += 1
                if tries == 3:
                    logger.warning(
                        "another migration runs, or a transaction has locked the ledger's tables (%s); retrying: "
                        "end long transactions",
                        reason_of(error),
                    )
                time.sleep(_BETWEEN_TRIES.after(tries))
            else:
                return


@contextmanager
def _errors_of(engine: Engine) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise DatabaseUnreachable(f"the database {place(engine.url)} can't be migrated: {reason_of(error)}") from None


def _config(connection: Connection, output: Any = None, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Any:
    from alembic.config import Config

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    config.attributes["lock_timeout"] = f"{int(lock_timeout_seconds * 1000)}ms"
    return config


def _exclude_others(connection: Connection) -> None:
    """Let processes that start at the same time migrate and grant one after another."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": sql_name(VERSION_TABLE)})


def _use_schema(connection: Connection, *, create: bool) -> list[str]:
    """Let the transaction's unqualified names mean the ledger's schema, as in all migrations. Return the statements.

    :param create: create the schema if there is none. Whoever may not create schemas lets somebody else do it before.
    """
    if SCHEMA is None:
        return []
    path = f'SET LOCAL search_path TO "{SCHEMA}"'
    making = [] if inspect(connection).has_schema(SCHEMA) else [f'CREATE SCHEMA "{SCHEMA}"']
    for statement in [*(making if create else []), path]:
        connection.execute(text(statement))
    return [*making, path]


def _grants(connection: Connection, roles: Roles) -> list[str]:
    if not roles:
        return []
    if connection.dialect.name != "postgresql":
        raise MigrationRefused("SQLite has no roles: grant the file's permissions to the processes' user instead")
    where = locate(connection)
    found = (statement for process, role in roles.items() for statement in grant_statements(process, role, where))
    return list(dict.fromkeys(found))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE, schema=SCHEMA):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {sql_name(VERSION_TABLE)}"))  # noqa: S608 (a constant)
    return version


def _is_ahead(connection: Connection) -> bool:
    version = _version(connection)
    return version is not None and version != SCHEMA_VERSION and serves(version)


def _check_that_nothing_runs(connection: Connection) -> None:
    version = _version(connection)
    if version != SCHEMA_VERSION:
        found = f"a ledger at migration {version}" if version else "no ledger"
        raise MigrationRefused(
            f"there is {found}, and this release can remove a ledger at migration {SCHEMA_VERSION}: "
            "run the command with the release that made it, or migrate first"
        )
    if running := connection.scalar(text(_COUNT_RUNNING)):
        raise MigrationRefused(
            f"{running} {'job runs' if running == 1 else 'jobs run'}: stop the workers and sync, and wait until "
            "`spoke-jobs ls --state running` lists nothing (`spoke-jobs cancel ID` ends a job)"
        )


def _offline(connection: Connection, revisions: str, down: bool) -> list[str]:
    """Let Alembic print the SQL. The migrations read the database through the connection."""
    from alembic import command

    output = io.StringIO()
    (command.downgrade if down else command.upgrade)(_config(connection, output), revisions, sql=True)
    return [statement.strip() for statement in output.getvalue().split(";\n\n") if statement.strip()]


def _on_a_copy(connection: Connection, down: bool) -> list[str]:
    """Run the migration on a copy of an SQLite database without its rows, where Alembic can copy tables."""
    from alembic import command

    copy = create_engine("sqlite://")
    found: list[str] = []
    with copy.connect() as target:
        for (sql,) in connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE "
                                              "'sqlite\\_%' ESCAPE '\\' ORDER BY type = 'table' DESC")):  # fmt: skip
            target.exec_driver_sql(sql)
        if (version := _version(connection)) is not None:
            target.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:v)"), {"v": version})  # noqa: S608

        @event.listens_for(target, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                found.append(statement.strip())

        if down:
            command.downgrade(_config(target), "base")
            target.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
        else:
            command.upgrade(_config(target), "head")
    copy.dispose()
    return found


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Switch off SQLite's foreign keys. SQLite allows this only outside a transaction.

    On SQLite, Alembic changes a table by copying and dropping it. With foreign keys on, the drop would delete every row
    that refers to a job.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    raw: Any = connection.connection.driver_connection
    (enforced,) = raw.execute("PRAGMA foreign_keys").fetchone()
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA foreign_keys = {int(enforced)}")
