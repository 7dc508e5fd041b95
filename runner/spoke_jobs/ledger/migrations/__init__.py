"""The ledger's migrations. ``spoke-jobs migrate`` runs them, independently of the application's own migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from spoke_jobs.errors import DatabaseUnreachable
from spoke_jobs.ledger.engine import SCHEMA_VERSION, serves, shown
from spoke_jobs.ledger.tables import VERSION_TABLE


def migrate(engine: Engine, revision: str = "head") -> None:
    """Migrate the ledger to a revision, in one transaction.

    Leave a ledger at a later revision unchanged, if this release works with it.

    :raises DatabaseUnreachable: if the database doesn't answer.
    """
    # Imported here because no other process needs Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with engine.connect() as connection, _without_foreign_keys(connection), connection.begin():
            if revision == "head" and _is_ahead(connection):
                return
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except OperationalError as error:
        where = shown(engine.url)
        reason = str(error.orig).strip().partition("\n")[0]
        raise DatabaseUnreachable(f"the database {where} can't be migrated: {reason}") from None


def _is_ahead(connection: Connection) -> bool:
    if not inspect(connection).has_table(VERSION_TABLE):
        return False
    version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
    return version != SCHEMA_VERSION and serves(version)


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
