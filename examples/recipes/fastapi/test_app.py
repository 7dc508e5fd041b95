"""The application's own tests: requests and their jobs, all in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
from app import app
from database import Base, async_engine, open_session
from jobs import ImportContacts
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.orm import sessionmaker

from spoke_jobs.testing.dispatched import SpokeJobs


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    """The test's connection; nothing on it is ever committed."""
    async with async_engine.connect() as connection:
        outer = await connection.begin()
        await connection.run_sync(Base.metadata.create_all)
        yield connection
        await outer.rollback()
    await async_engine.dispose()  # its connections are this test's event loop's


@pytest.fixture
def spoke_jobs_sessions(connection: AsyncConnection) -> Callable[[], AsyncSession]:
    """Jobs work on the test's connection, as requests do."""
    return async_sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)


@pytest_asyncio.fixture
async def client(
    connection: AsyncConnection, spoke_jobs_sessions: Callable[[], AsyncSession], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, whose requests and tasks work on the test's connection as well."""

    async def session() -> AsyncIterator[AsyncSession]:
        async with spoke_jobs_sessions() as made:
            yield made

    monkeypatch.setitem(app.dependency_overrides, open_session, session)
    plain = sessionmaker(connection.sync_connection, join_transaction_mode="create_savepoint")
    monkeypatch.setattr("jobs.sessions", plain)  # a task has no session of the library's
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


@pytest.mark.asyncio
@pytest.mark.parametrize("names", [["Ada", "Grace"], ["Edsger"]])
async def test_an_upload_is_imported(client: httpx.AsyncClient, spoke_jobs: SpokeJobs, names: list[str]) -> None:
    """The second finds nothing of the first."""
    answer = await client.post("/uploads", json=names)
    assert answer.status_code == 202
    assert isinstance(spoke_jobs.job("import_contacts").payload, ImportContacts)
    await spoke_jobs.adrain()
    assert spoke_jobs.job("import_contacts").result == {"loaded": len(names)}
    assert (await client.get("/contacts")).json() == names
    assert (await client.get("/notices")).json() == [f"{len(names)} names came in"]


@pytest.mark.asyncio
async def test_a_refused_upload_dispatches_nothing(client: httpx.AsyncClient, spoke_jobs: SpokeJobs) -> None:
    """Although it was refused after the dispatch."""
    assert (await client.post("/uploads", json=["Ada", ""])).status_code == 422
    assert spoke_jobs.jobs() == spoke_jobs.tasks() == []
