"""A test's connection, whose outer transaction is rolled back at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from tests.unit.testing.application import lines, metadata, ran, registry

from spoke_jobs import Registry
from spoke_jobs.ledger.engine import configure_sqlite, create_engine


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def spoke_jobs_registry() -> Registry:
    return registry


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/application.sqlite3")
    metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connected:
        outer = connected.begin()
        yield connected
        outer.rollback()
    with engine.connect() as connected:
        assert lines(connected) == []


@pytest.fixture
async def async_connection(engine: Engine) -> AsyncIterator[AsyncConnection]:
    async_engine = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
    configure_sqlite(async_engine.sync_engine)
    async with async_engine.connect() as connected:
        outer = await connected.begin()
        yield connected
        await outer.rollback()
    await async_engine.dispose()


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    """What the application's code is given."""
    with Session(bind=connection, join_transaction_mode="create_savepoint") as made:
        yield made


@pytest.fixture
def spoke_jobs_sessions(request: pytest.FixtureRequest) -> Any:
    if "connection" in request.fixturenames:
        connection = request.getfixturevalue("connection")
        return sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
    return None
