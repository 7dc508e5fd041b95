"""Opening a database: an unusable one is refused with a message that shows no secret."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from tests.contract.ledger import present
from tests.waiting import patient

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.execution.attempt_decisions import describe
from spoke_jobs.ledger.engine import SCHEMA_VERSION, check_schema, create_engine, is_away, shown
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


def test_a_password_with_an_at_sign_appears_in_no_message() -> None:
    """What is behind the sign would be taken for the host's name, which messages show."""
    with pytest.raises(ConfigurationError, match="In a password, write @ as %40") as caught:
        create_engine("postgresql://u:hunt@er2@h/db")
    assert "er2" not in str(caught.value)


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
        driver = present(connection.connection.driver_connection)
        engine.dispose()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert driver is not None
    assert driver.execute("SELECT 1").fetchone() == (1,), "the engine may be used again"
    engine.dispose()


def test_a_connection_that_is_being_opened_while_the_engine_is_disposed_is_closed(sqlite_ledger_url: str) -> None:
    """As by a heartbeat on a busy machine, on which opening one takes longer than the engine's owner waits."""
    engine, begun, disposed = create_engine(sqlite_ledger_url), threading.Event(), threading.Event()
    opened: list[sqlite3.Connection] = []

    @event.listens_for(engine, "do_connect")
    def on_do_connect(*_: object) -> None:
        begun.set()
        assert disposed.wait(patient(60))

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        opened.append(connection)

    thread = threading.Thread(target=lambda: engine.connect().close())
    thread.start()
    assert begun.wait(patient(60))
    engine.dispose()
    disposed.set()
    thread.join(patient(60))
    (driver,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")


@pytest.mark.parametrize(
    ("state", "cause"),
    [("53100", Cause.JOB_ERROR), ("53200", Cause.JOB_ERROR), ("53300", Cause.DATABASE_UNREACHABLE)],
)
def test_a_server_that_lacks_memory_disk_space_or_connections_is_away(state: str, cause: Cause) -> None:
    """Whoever uses them up may be another application. But a job's own statement may have used up memory and disk."""
    lacking = psycopg.errors.lookup(state)("no room")
    error = OperationalError("UPDATE", {}, lacking)
    assert is_away(error)
    assert describe(error, RetryPolicy(), cancelled=False).cause == cause


@pytest.mark.parametrize("state", ["53400", "57014", "42601"])
def test_a_statement_that_exceeds_a_limit_of_its_own_is_the_job_s_error(state: str) -> None:
    error = OperationalError("UPDATE", {}, psycopg.errors.lookup(state)("too much"))
    assert not is_away(error)
