"""The migrations make just the tables that the code works with (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Engine, Integer, MetaData, Table

from spoke_jobs.ledger import migrations
from spoke_jobs.ledger.engine import SCHEMA_VERSION, create_engine
from spoke_jobs.ledger.tables import VERSION_TABLE, include_object, metadata


def differences(engine: Engine) -> list[object]:
    """What autogenerate would change to make the migrated database what the code says."""
    with engine.connect() as connection:
        # SQLite gives defaults back as the text that they were written as: PostgreSQL's comparison has to do.
        defaults = connection.dialect.name != "sqlite"
        options = {"compare_type": True, "compare_server_default": defaults, "version_table": VERSION_TABLE}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def proposals(engine: Engine) -> list[object]:
    """What an application's own autogenerate would propose, using the filter that the documentation gives it."""
    application = MetaData()
    Table("contact", application, Column("id", Integer, primary_key=True))
    application.create_all(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include_object})
        return list(compare_metadata(context, application))


def test_no_difference(sqlite_ledger_url: str) -> None:
    engine = create_engine(sqlite_ledger_url)
    assert differences(engine) == []
    engine.dispose()


def test_an_application_s_autogenerate_proposes_nothing_for_our_tables(sqlite_ledger_url: str) -> None:
    engine = create_engine(sqlite_ledger_url)
    assert proposals(engine) == []
    engine.dispose()


def test_start_up_checks_for_the_newest_migration() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_heads() == [SCHEMA_VERSION]
