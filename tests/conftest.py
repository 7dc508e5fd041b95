"""Databases for single tests, marks for what a test needs, and the sharing of tests among processes."""

from __future__ import annotations

import gc
import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool
from tests.compiled_statements import share_compiled_statements
from tests.frozen import FrozenProcesses
from tests.ledger_databases import LedgerDatabases
from tests.open_connections import note_connections, openers
from tests.postgres import server_url
from tests.sharing import ByGroup, rank
from tests.slow import is_slow
from tests.timings import report_timings
from tests.waiting import FACTOR, eventually, patient

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger

POSTGRES_URL = server_url(os.environ)

pytest.register_assert_rewrite(*(f"tests.{name}" for name in ("contract", "e2e", "integration", "unit")))

# The fuzzer has wheels only for Linux on x86-64.
collect_ignore = [] if find_spec("atheris") else ["unit/contract/test_fuzzing.py"]

_CLUSTER_FOLDERS = ("tests/e2e/", "tests/integration/charts/", "tests/integration/release/")
LONGEST_SECONDS = 1000.0
"""The longest timeout of a test, unless it asks for a longer one: one test that hangs must not use up a run's time."""
_CLUSTER_FIXTURES = frozenset({"cluster_env", "kubeconfig"})
_POSTGRES_FIXTURE = "postgres_url"


# How long an example takes depends on the machine.
hypothesis.settings.register_profile("spoke-jobs", deadline=None)
hypothesis.settings.load_profile("spoke-jobs")


def pytest_configure(config: pytest.Config) -> None:
    report_timings(config)
    config.pluginmanager.register(FrozenProcesses())
    note_connections()
    share_compiled_statements()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say which test opened a connection that was found open."""
    report = yield
    if report.failed and (tests := openers(report.longreprtext)):
        report.longrepr = f"{report.longreprtext}\nopened by: {', '.join(tests)}"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the cluster, what needs PostgreSQL and what is slow; put long groups first (xdist)."""
    for item in items:
        used, params = set(getattr(item, "fixturenames", ())), getattr(item, "callspec", None)
        if item.nodeid.startswith(_CLUSTER_FOLDERS) or used & _CLUSTER_FIXTURES:
            item.add_marker("cluster")
        if is_slow(item.nodeid):
            item.add_marker("slow")
        databases = [value for value in params.params.values() if isinstance(value, str)] if params else []
        if _POSTGRES_FIXTURE in used or not {"postgres", "postgresql"}.isdisjoint(databases):
            item.add_marker("postgres")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Multiply each test's timeout as the bounds of its waits, but not beyond `LONGEST_SECONDS`.

    A wait that may take longer than that is ended by the timeout of its test, with the stacks of all threads.
    """
    if FACTOR == 1:
        return
    for item in session.items:
        mark = item.get_closest_marker("timeout")
        seconds = mark.args[0] if mark and mark.args else session.config.getini("timeout")
        longest = max(float(seconds), LONGEST_SECONDS)
        item.add_marker(pytest.mark.timeout(min(patient(float(seconds)), longest)), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Turn garbage collection off meanwhile, and leave modules and tests out of it then: they stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
    engine = create_engine(POSTGRES_URL, connect_args={"connect_timeout": round(patient(30))})
    try:
        with engine.connect():
            return POSTGRES_URL
    except Exception as error:
        pytest.fail(f"no PostgreSQL at {engine.url}: run scripts/postgres, or set SPOKE_TEST_POSTGRES ({error})")
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def ledger_roles(postgres_url: str) -> Iterator[dict[Process, str]]:
    """A role for each kind of process. Roles belong to the server, and their privileges to the template below."""
    names = {process: f"test_{process}_{uuid.uuid4().hex[:12]}" for process in Process}
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for name in names.values():
            # The tests' own role is a member, so that it can drop what the role owns.
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' ROLE CURRENT_USER"))
    yield names
    with admin.connect() as connection:
        for name in names.values():
            connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


@pytest.fixture(scope="session")
def _migrated_template(postgres_url: str, ledger_roles: dict[Process, str]) -> Iterator[str]:
    """A database with the ledger's tables; copying it is quicker than migrating for each test."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine = create_ledger_engine(make_url(postgres_url).set(database=name))
    migrate(engine, roles=ledger_roles)
    engine.dispose()
    yield name
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture(scope="session")
def _ledger_databases(postgres_url: str, _migrated_template: str) -> Iterator[LedgerDatabases]:
    databases = LedgerDatabases(postgres_url, _migrated_template)
    yield databases
    databases.close()


@pytest.fixture
def postgres_ledger_url(_ledger_databases: LedgerDatabases) -> Iterator[str]:
    """The URL of a PostgreSQL database with the ledger's tables, empty as a new one."""
    with _ledger_databases.lent() as url:
        yield url


@pytest.fixture(scope="module")
def shared_postgres_ledger_url(_ledger_databases: LedgerDatabases) -> Iterator[str]:
    """The same, for all tests of a module that ask for it: each has to leave it empty."""
    with _ledger_databases.lent() as url:
        yield url


@pytest.fixture
def role_urls(postgres_ledger_url: str, ledger_roles: dict[Process, str]) -> dict[Process, str]:
    """The URL of that database for each kind of process, with a role that has the privileges it needs."""
    return {process: as_role(postgres_ledger_url, name) for process, name in ledger_roles.items()}


def as_role(url: str, name: str) -> str:
    """The URL with another role, whose password is its name."""
    return make_url(url).set(username=name, password=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the ledger's tables, to be copied likewise."""
    file = tmp_path_factory.mktemp("template") / "jobs.sqlite3"
    engine = create_ledger_engine(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    assert [path.name for path in file.parent.iterdir()] == [file.name], "all of it is in the one file"
    return file


@pytest.fixture
def sqlite_ledger_url(tmp_path: Path, _migrated_file: Path) -> str:
    """The URL of a fresh SQLite file with the ledger's tables."""
    return _copied_file(_migrated_file, tmp_path)


@pytest.fixture(scope="module")
def shared_sqlite_ledger_url(tmp_path_factory: pytest.TempPathFactory, _migrated_file: Path) -> str:
    """The same, for all tests of a module that ask for it: each has to leave it empty."""
    return _copied_file(_migrated_file, tmp_path_factory.mktemp("shared"))


def _copied_file(file: Path, folder: Path) -> str:
    shutil.copyfile(file, folder / file.name)
    return f"sqlite:///{folder}/{file.name}"


def open_ledger(url: str) -> Iterator[SqlLedger]:
    """A ledger on the URL, closed at the end."""
    engine: Engine = create_ledger_engine(url)
    yield SqlLedger(engine)
    engine.dispose()


def given_back(engine: Engine) -> None:
    """Wait until no connection is in use: a job's last heartbeat may be under way when the job's end is known.

    What is given back once the engine is disposed of is never closed, and Python 3.13 warns of that.
    """
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    eventually(lambda: not pool.checkedout(), "all connections are given back")
