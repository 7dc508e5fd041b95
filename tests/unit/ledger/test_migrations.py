"""The migrations create exactly the tables of the code (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Engine, Index, Integer, MetaData, Table
from sqlalchemy.engine import make_url
from tests.contract.ledger import claim_one, new_job

from spoke_jobs.ledger import migrations
from spoke_jobs.ledger.engine import SCHEMA_VERSION, create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import VERSION_TABLE, include_object, metadata


def differences(engine: Engine) -> list[object]:
    """What autogenerate would change in the migrated database."""
    with engine.connect() as connection:
        dialect = connection.dialect.name
        options = {
            "compare_type": True,
            # SQLite returns defaults as their original text: only PostgreSQL's can be compared.
            "compare_server_default": dialect != "sqlite",
            "version_table": VERSION_TABLE,
            "include_object": lambda item, *_: not isinstance(item, Index) or is_for(item, dialect),
        }
        with warnings.catch_warnings():
            # PostgreSQL's index by an expression. SQLite has none.
            warnings.filterwarnings("ignore", "autogenerate skipping .* 'ix_job_request_due'", UserWarning)
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def is_for(index: Index, dialect: str) -> bool:
    """Whether databases of this kind have the index. Alembic does not look."""
    return index._ddl_if is None or index._ddl_if.dialect == dialect


def proposals(engine: Engine) -> list[object]:
    """What an application's own autogenerate would propose with the documented filter."""
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


def test_no_id_is_given_twice(sqlite_ledger_url: str) -> None:
    """A row deleted without foreign keys leaves its attempts: no new job may get them."""
    engine = create_engine(sqlite_ledger_url)
    ledger = SqlLedger(engine)
    first = ledger.insert(new_job())
    assert claim_one(ledger, "legacy", ["report"], "w", 30) is not None
    engine.dispose()
    other = sqlite3.connect(make_url(sqlite_ledger_url).database or "")
    with other:
        other.execute("DELETE FROM job_request")
    other.close()
    second = ledger.insert(new_job())
    assert second.id > first.id
    claim = claim_one(ledger, "legacy", ["report"], "w", 30)
    assert claim is not None
    assert claim.job.id == second.id
    engine.dispose()


@pytest.mark.parametrize("made_by", ["migration", "metadata"])
def test_both_ways_to_the_tables_number_alike(made_by: str, sqlite_ledger_url: str, tmp_path: Path) -> None:
    engine = create_engine(sqlite_ledger_url if made_by == "migration" else f"sqlite:///{tmp_path}/made.sqlite3")
    if made_by == "metadata":
        metadata.create_all(engine)
    with engine.connect() as connection:
        made = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        assert set(made.scalars()) == {
            *("job_request", "job_attempt", "task_outbox", "job_event", "job_limit", "job_batch", "notice_mute")
        }
    engine.dispose()


def test_start_up_checks_for_the_newest_migration() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_heads() == [SCHEMA_VERSION]
