"""What the texting application's tests run on: both databases, and servers that really listen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker
from tests.asgi_server import serving
from tests.preloaded import Program
from tests.waiting import patient

from spoke_jobs import registry
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings
from texting import carrier_client, database, settings
from texting.carrier import create_app
from texting.models import Base


@pytest.fixture
def texting_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own: SQLite, unless the test is of ``making.BOTH``."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'texting.sqlite3'}"
    url: str = request.getfixturevalue("texting_postgres_url")
    return url


@pytest.fixture
def texting_postgres_url(postgres_url: str) -> Iterator[str]:
    """An empty database of the test's own, on PostgreSQL."""
    name = f"test_{uuid4().hex[:12]}"
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture
def sessions(texting_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sessionmaker[Session]]:
    """Sessions on a database with the application's tables and the ledger's, which the application uses as well."""
    monkeypatch.setenv("SPOKE_DATABASE_URL", texting_database_url)
    _forget()
    migrate(database.engine())
    Base.metadata.create_all(database.engine())
    yield database.sessions()
    database.engine().dispose()
    _forget()


@pytest.fixture
def runner(sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch) -> MemoryRunner:
    """Runs jobs when told to (``drain``), in this process."""
    runner = MemoryRunner(Settings(), registry.default, sessions)
    monkeypatch.setattr("spoke_jobs.dispatch._runner", runner)
    return runner


@pytest.fixture
def worker(
    texting_database_url: str, sessions: sessionmaker[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with one child, and the runner that dispatches to it."""
    runner = LegacyRunner(Settings(database_url=SecretStr(texting_database_url)), registry.default)
    monkeypatch.setattr("spoke_jobs.dispatch._runner", runner)
    environment = os.environ | {
        "SPOKE_DATABASE_URL": texting_database_url,
        "SPOKE_APP": "texting.jobs",
        "SPOKE_POLL_SECONDS": "0.05",
    }
    command = ["-m", "spoke_jobs", "worker", "--processes", "1", "--grace", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = Program("worker", command, env=environment, stderr=log, start_new_session=True)
    yield process
    process.terminate()
    process.wait(patient(30))
    runner.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serves an ASGI application until the test's end: gives its address."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


@pytest.fixture
def carrier_url(serve: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A carrier with nothing delivered yet, which the application is told of."""
    url = serve(create_app())
    monkeypatch.setenv("TEXTING_CARRIER_URL", url)
    settings.settings.cache_clear()
    carrier_client.carrier.cache_clear()
    yield url
    carrier_client.carrier().close()
    carrier_client.carrier.cache_clear()
    settings.settings.cache_clear()


def _forget() -> None:
    for cached in (database.engine, database.sessions, database.ledger, settings.settings):
        cached.cache_clear()
