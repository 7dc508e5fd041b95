"""The application's own tests: requests, jobs and tasks in one transaction, which is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
from app import app
from database import Base, async_engine, open_session
from jobs import ImportContacts
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker

from spoke_jobs.testing.dispatched import SpokeJobs


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    """Yield the test's connection. Nothing on it is ever committed."""
    async with async_engine.connect() as connection:
        outer = await connection.begin()
        await connection.run_sync(Base.metadata.create_all)
        yield connection
        await outer.rollback()
    await async_engine.dispose()  # its connections belong to this test's event loop


@pytest.fixture
def spoke_jobs_sessions(connection: AsyncConnection) -> Callable[[], AsyncSession]:
    """Give jobs and tasks sessions on the test's connection."""
    return async_sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)


@pytest_asyncio.fixture
async def client(
    spoke_jobs_sessions: Callable[[], AsyncSession], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application. Its requests use the test's connection as well."""

    async def session() -> AsyncIterator[AsyncSession]:
        async with spoke_jobs_sessions() as made:
            yield made

    monkeypatch.setitem(app.dependency_overrides, open_session, session)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


@pytest.mark.asyncio
@pytest.mark.parametrize("names", [["Ada", "Grace"], ["Edsger"]])
async def test_an_upload_is_imported(client: httpx.AsyncClient, spoke_jobs: SpokeJobs, names: list[str]) -> None:
    """The second case finds no rows of the first."""
    answer = await client.post("/uploads", json=names)
    assert answer.status_code == 202
    assert isinstance(spoke_jobs.job("import_contacts").payload, ImportContacts)
    await spoke_jobs.adrain()
    assert spoke_jobs.job("import_contacts").result == {"loaded": len(names)}
    assert (await client.get("/contacts")).json() == names
    assert (await client.get("/notices")).json() == [f"{len(names)} names came in"]


@pytest.mark.asyncio
async def test_a_refused_upload_dispatches_nothing(client: httpx.AsyncClient, spoke_jobs: SpokeJobs) -> None:
    """The upload is refused after the dispatch."""
    assert (await client.post("/uploads", json=["Ada", ""])).status_code == 422
    assert spoke_jobs.jobs() == spoke_jobs.tasks() == []
