"""The same for tests on an event loop, whose connection belongs to that loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from tests.unit.testing.application import Words, line, lines, ran

from spoke_jobs import JobData, JobState, Registry, adispatch_job, adispatch_task, dispatch_job
from spoke_jobs.testing.dispatched import JobsFailed, SpokeJobs


@pytest.fixture
def sessions(async_connection: AsyncConnection) -> Callable[[], AsyncSession]:
    return async_sessionmaker(bind=async_connection, join_transaction_mode="create_savepoint")


@pytest.fixture
def spoke_jobs_sessions(sessions: Callable[[], AsyncSession]) -> Any:
    return sessions


async def test_seen_and_run_in_the_test_s_own_transaction(
    spoke_jobs: SpokeJobs, sessions: Callable[[], AsyncSession], async_connection: AsyncConnection
) -> None:
    async with sessions() as session:
        await session.execute(line.insert().values(text="the application's"))
        for name in ("write", "awrite"):
            await adispatch_job(JobData(name, Words(text=name)), session=session)
        await adispatch_task("anote", Words(text="task"), session=session)
        assert spoke_jobs.jobs() == []
        await session.commit()
    assert [(job.type, job.payload.text) for job in spoke_jobs.jobs()] == [("write", "write"), ("awrite", "awrite")]
    assert [job.result for job in await spoke_jobs.adrain()] == [{"wrote": "write"}, "awrite"]
    written = await async_connection.run_sync(lines)
    assert written == ["the application's", "write", "awrite", "awrite again"]
    assert ran == ["task", "timed out"]


async def test_rolled_back_makes_nothing(spoke_jobs: SpokeJobs, sessions: Callable[[], AsyncSession]) -> None:
    async with sessions() as session:
        await adispatch_job(JobData("write", Words(text="x")), session=session)
        await adispatch_task("anote", Words(text="x"), session=session)
        await session.rollback()
    assert (await spoke_jobs.adrain(), spoke_jobs.tasks(), ran) == ([], [], [])


async def test_what_fails_is_told_and_its_writes_are_lost(
    spoke_jobs: SpokeJobs, async_connection: AsyncConnection
) -> None:
    await adispatch_job(JobData("fail"))
    with pytest.raises(JobsFailed, match="attempt 3"):
        await spoke_jobs.adrain()
    assert await async_connection.run_sync(lines) == []
    await adispatch_task("trip")
    with pytest.raises(LookupError, match="as it was told to"):
        await spoke_jobs.adrain()


async def test_async_jobs_run_on_the_test_s_loop_and_plain_ones_see_none() -> None:
    """So that what a test made on its loop, a client say, is at home in its jobs, and asyncio.run() in plain ones."""
    registry = Registry()
    test = SpokeJobs(registry)
    loop, seen = asyncio.get_running_loop(), []

    async def on_it(_ctx: Any, _payload: Any) -> None:
        seen.append(asyncio.get_running_loop())

    def beside_it(_ctx: Any, _payload: Any) -> None:
        asyncio.run(asyncio.sleep(0))
        seen.append(None)

    registry.task("on_it")(on_it)
    registry.task("beside_it")(beside_it)
    test.runner.dispatch_task("on_it")
    test.runner.dispatch_task("beside_it")
    await test.adrain()
    assert seen == [loop, None]


class TestPlainSessions:
    """An application whose requests are async and whose database access is not."""

    @pytest.fixture
    def spoke_jobs_sessions(self, connection: Connection) -> Any:
        return lambda: Session(bind=connection, join_transaction_mode="create_savepoint")

    async def test_either_drain_will_do(self, spoke_jobs: SpokeJobs, session: Session, connection: Connection) -> None:
        dispatch_job(JobData("write", Words(text="first")), session=session)
        session.commit()
        spoke_jobs.drain()
        dispatch_job(JobData("awrite", Words(text="second")), session=session)
        session.commit()
        await spoke_jobs.adrain()
        assert lines(connection) == ["first", "second", "second again"]
        assert {job.state for job in spoke_jobs.jobs()} == {JobState.SUCCEEDED}
