"""What a migration asks of its database. It also works while the SQL is only printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from spoke_jobs.errors import MigrationRefused


def runs_on_sqlite() -> bool:
    """Whether the migration runs on SQLite."""
    return op.get_context().dialect.name == "sqlite"


def reading() -> sa.Connection:
    """Return a connection for queries. While the SQL is only printed, this is the one that still answers."""
    environment: Any = op.get_context().environment_context
    connection: sa.Connection = environment.config.attributes["connection"]
    return connection


def inspector() -> Any:
    """Return an inspector of the database as it was when the migration began."""
    return sa.inspect(reading())


def create_index_on_history(name: str, columns: Sequence[str], where: str) -> None:
    """Create an index of `job_request`, unless it was created before.

    :param columns: names, or calls of SQL functions.

    The build of an index, also of a small one, reads the whole table with its history. A migration holds its locks
    until its end, and `CREATE INDEX CONCURRENTLY` can't run in a transaction. So whoever has a large table creates the
    index before: docs/upgrading.md.

    :raises MigrationRefused: if that has failed and left an invalid index.
    """
    if not runs_on_sqlite():
        found = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        valid = reading().scalar(found, {"name": name})
        if valid:
            return
        if valid is not None:
            raise MigrationRefused(
                f"the index {name} is not valid, because CREATE INDEX CONCURRENTLY has failed: drop it, then create it "
                "again or migrate again"
            )
    only = sa.text(where)
    parts = [sa.text(column) if "(" in column else column for column in columns]
    op.create_index(name, "job_request", parts, postgresql_where=only, sqlite_where=only)
