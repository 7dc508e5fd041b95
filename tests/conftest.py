"""Databases for single tests, marks for what a test needs, and the sharing of tests among processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from tests.sharing import ByGroup, rank
from tests.timings import report_timings

from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger

POSTGRES_URL = os.environ.get("SPOKE_TEST_POSTGRES", "postgresql+psycopg://spoke:spoke@127.0.0.1:54329/spoke")

_CLUSTER_FOLDERS = ("tests/e2e/", "tests/integration/charts/", "tests/integration/release/")
_CLUSTER_FIXTURES = frozenset({"cluster_env", "kubeconfig"})
_POSTGRES_FIXTURE = "postgres_url"


def pytest_configure(config: pytest.Config) -> None:
    report_timings(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the test cluster or its programs, and what needs PostgreSQL; put long groups first (xdist)."""
    for item in items:
        used, params = set(getattr(item, "fixturenames", ())), getattr(item, "callspec", None)
        if item.nodeid.startswith(_CLUSTER_FOLDERS) or used & _CLUSTER_FIXTURES:
            item.add_marker("cluster")
        databases = [value for value in params.params.values() if isinstance(value, str)] if params else []
        if _POSTGRES_FIXTURE in used or not {"postgres", "postgresql"}.isdisjoint(databases):
            item.add_marker("postgres")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """Share the tests among pytest-xdist's processes by group."""
    return ByGroup(config, log)


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the developer's shell: a test sets what it needs."""
    for name in list(os.environ):
        if name.startswith("SPOKE_") and not name.startswith("SPOKE_TEST_"):
            monkeypatch.delenv(name)
    for name in ("JOB_RUNNER", "JOBS_SYNC", "JOBS_SAME_PROCESS", "TASKS_SYNC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The server on which tests create databases; `make test` starts it (`scripts/postgres`)."""
    engine = create_engine(POSTGRES_URL, connect_args={"connect_timeout": 5})
    try:
        with engine.connect():
            return POSTGRES_URL
    except Exception as error:
        pytest.fail(f"no PostgreSQL at {engine.url}: run scripts/postgres, or set SPOKE_TEST_POSTGRES ({error})")
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def _migrated_template(postgres_url: str) -> Iterator[str]:
    """A database with the ledger's tables; copying it is quicker than migrating for each test."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine = create_ledger_engine(make_url(postgres_url).set(database=name))
    migrate(engine)
    engine.dispose()
    yield name
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def postgres_ledger_url(postgres_url: str, _migrated_template: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database with the ledger's tables."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{_migrated_template}"'))
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def sqlite_ledger_url(tmp_path: Path) -> str:
    """The URL of a fresh SQLite file with the ledger's tables."""
    url = f"sqlite:///{tmp_path}/jobs.sqlite3"
    engine = create_ledger_engine(url)
    migrate(engine)
    engine.dispose()
    return url


def open_ledger(url: str) -> Iterator[SqlLedger]:
    """A ledger on the URL, closed at the end."""
    engine: Engine = create_ledger_engine(url)
    yield SqlLedger(engine)
    engine.dispose()
