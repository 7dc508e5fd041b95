"""Migrate the application's tables: ``python -m texting.schema``. Running it again changes nothing.

The library's tables have a migration history and a version table of their own (``spoke-jobs migrate``).
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect

from texting.database import engine

VERSION_TABLE = "texting_version"
FIRST = "0001"


def create_tables(database: Engine | None = None, revision: str = "head") -> None:
    """Migrate the tables to a revision in one transaction, by default in the process's own database."""
    # Imported here, because a job's process does not need Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with (database or engine()).begin() as connection:
        config.attributes["connection"] = connection
        there = inspect(connection)
        if there.has_table("campaign") and not there.has_table(VERSION_TABLE):
            command.stamp(config, FIRST)  # the first release created its tables without a version table
        command.upgrade(config, revision)


if __name__ == "__main__":
    create_tables()
    print(f"texting's tables are in {engine().url.render_as_string(hide_password=True)}")
