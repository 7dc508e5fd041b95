"""Opening a database: an unusable one is refused with a message that shows no secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.ledger.engine import SCHEMA_VERSION, check_schema, create_engine, shown
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.tables import VERSION_TABLE

NOWHERE = "postgresql://127.0.0.1:1/db?user=u&password=hunter2&connect_timeout=1"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u:hunter2@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://h/db?user=u&password=hunter2", "postgresql://h/db?user=***&password=***"),
        ("postgresql://h/db?password=hunter2&password=hunter3", "postgresql://h/db?password=***"),
        ("sqlite:///jobs.sqlite3", "sqlite:///jobs.sqlite3"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, text: str) -> None:
    assert shown(make_url(url)) == text


@pytest.mark.parametrize("use", [check_schema, migrate])
def test_a_database_that_does_not_answer_is_named_without_its_secrets(use: object) -> None:
    engine = create_engine(NOWHERE)
    with pytest.raises(DatabaseUnreachable, match=r"//127\.0\.0\.1:1/db\?user=") as caught:
        use(engine)  # type: ignore[operator]
    engine.dispose()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://h:abc/db", "sqlite:///x.sqlite3?timeout=soon", "nonsense"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="isn't a valid database URL"):
        create_engine(url)


def test_checking_for_a_ledger_creates_no_file(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.sqlite3"
    engine = create_engine(f"sqlite:///{file}")
    with pytest.raises(DatabaseNotMigrated, match="has no ledger yet: run `spoke-jobs migrate`"):
        check_schema(engine)
    assert not file.exists()
    migrate(engine)
    check_schema(engine)
    engine.dispose()


def test_an_empty_file_has_no_ledger_either(tmp_path: Path) -> None:
    file = tmp_path / "empty.sqlite3"
    file.touch()
    engine = create_engine(f"sqlite:///{file}")
    with pytest.raises(DatabaseNotMigrated, match="has no ledger yet: run `spoke-jobs migrate`"):
        check_schema(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("version", "works"),
    [
        (SCHEMA_VERSION, True),
        (f"{int(SCHEMA_VERSION) + 1:04}", True),
        (f"{int(SCHEMA_VERSION) - 1:04}", False),
        (f"{int(SCHEMA_VERSION) + 100:04}", False),
    ],
)
def test_a_later_release_s_ledger_serves_within_the_series(sqlite_ledger_url: str, version: str, works: bool) -> None:
    """During a rollout of the next release, and after its rollback: its additions do not matter."""
    engine = create_engine(sqlite_ledger_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
    if works:
        migrate(engine)
        check_schema(engine)
    else:
        with pytest.raises(DatabaseNotMigrated, match=f"at migration {version}, this release needs {SCHEMA_VERSION}"):
            check_schema(engine)
    engine.dispose()


def test_a_connection_that_is_returned_after_the_engine_is_disposed_is_closed(sqlite_ledger_url: str) -> None:
    """As by a heartbeat in progress. Nobody would close it later."""
    engine = create_engine(sqlite_ledger_url)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        engine.dispose()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert driver is not None
    assert driver.execute("SELECT 1").fetchone() == (1,), "the engine may be used again"
    engine.dispose()
