"""The thread that serves the outbox, beside replicas of another release."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError, ProgrammingError
from tests.contract.outbox import put, rows
from tests.many_files import many_files, with_high_number
from tests.waiting import eventually_async, patient

from spoke_jobs import Registry, TaskContext
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.outbox.task_outbox import UNKNOWN_SECONDS, Outbox, OutboxTask, insert_task
from spoke_jobs.ledger.outbox.task_replicas import SlotUse, TaskReplica, replicas
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.tasks.server import outbox_worker
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.outbox_worker import OutboxWorker, OutboxWorkerOptions

__all__ = ["many_files"]
registry = Registry()


@registry.task("newer")
async def newer(ctx: TaskContext, payload: object) -> None:
    """The older release does not know it."""


@pytest.fixture
def engine(sqlite_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(sqlite_ledger_url)
    yield made
    made.dispose()


def put_aside(engine: Engine, count: int) -> None:
    """Write tasks that a replica of the older release has set aside."""
    with engine.begin() as connection:
        for number in range(count):
            insert_task(connection, "kubernetes", "newer", str(number))
        later = {"cause": TaskCause.UNKNOWN_TASK, "due_at": clock_after(UNKNOWN_SECONDS)}
        connection.execute(update(task_outbox).where(task_outbox.c.token.is_(None)).values(later))


@asynccontextmanager
async def serving(outbox: Outbox, poll_seconds: float = 0.05) -> AsyncIterator[OutboxWorker]:
    executor = TaskExecutor(registry, concurrency=2, limit=8)
    options = OutboxWorkerOptions(2, lease_seconds=600, poll_seconds=poll_seconds)
    worker = OutboxWorker(outbox, ["newer"], executor, options)
    executor.start()
    worker.start()
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop, patient(30))
        await executor.finish(patient(30))


async def test_tasks_that_older_replicas_set_aside_run_before_the_next_housekeeping(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_worker, "_HOUSEKEEPING_SECONDS", 86400)
    monkeypatch.setattr(outbox_worker, "_RECALL_PAUSE", 0)  # a search takes no longer because this machine is busy
    put(engine, "0", name="newer")
    async with serving(Outbox(engine, "kubernetes")) as worker:
        await eventually_async(lambda: worker.counts.done == 1, "the first housekeeping has been")
        put_aside(engine, 20)
        await eventually_async(lambda: worker.counts.done == 21, "what was set aside has run")
    assert rows(engine) == []


def signs(engine: Engine) -> list[TaskReplica]:
    with engine.connect() as connection:
        return replicas(connection, 9)


async def test_a_replica_says_that_it_is_alive_until_it_stops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_worker, "SIGN_SECONDS", 0.05)
    async with serving(Outbox(engine, "kubernetes")):
        await eventually_async(lambda: bool(signs(engine)), "it has signed")
        (first,) = signs(engine)
        assert first[3:] == (2, 0, 0)
        await eventually_async(lambda: signs(engine)[0].seen_at > first.seen_at, "it has signed again")
        assert signs(engine)[0].started_at == first.started_at
    assert signs(engine) == []


async def test_a_replica_works_without_the_right_to_say_that_it_is_alive(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_worker, "SIGN_SECONDS", 0.05)
    tries = 0

    class Refused(Exception):
        sqlstate = "42501"

    class Unsigned(Outbox):
        def sign(self, replica: str, use: SlotUse, *, age_seconds: float, first: bool) -> None:
            nonlocal tries
            tries += 1
            raise ProgrammingError("INSERT", {}, Refused("permission denied for table task_replica"))

    put(engine, "0", name="newer")
    async with serving(Unsigned(engine, "kubernetes")) as worker:
        await eventually_async(lambda: tries > 2 and worker.counts.done == 1, "it tries again, and runs the task")
    assert worker.counts.database_errors == 0
    (said,) = [text for text in caplog.messages if "slots" in text]
    assert "permission denied for table task_replica" in said


async def test_a_claim_that_fails_keeps_no_task_of_the_claim_before_it(engine: Engine) -> None:
    """Otherwise the tasks would wait until their leases lapse, and count as lost."""

    class Failing(Outbox):
        fails = True

        def claim(self, *arguments: Any, suspects: bool = False, **named: Any) -> Sequence[OutboxTask]:
            if suspects and self.fails:
                self.fails = False
                raise OperationalError("UPDATE", {}, Exception("the connection is lost"))
            return super().claim(*arguments, suspects=suspects, **named)

    put(engine, "0", "1", name="newer")
    async with serving(Failing(engine, "kubernetes")) as worker:
        await eventually_async(lambda: worker.counts.done == 2, "both have run")
        assert worker.counts.database_errors == 1


@pytest.mark.usefixtures("many_files")
async def test_a_commit_wakes_it_however_many_files_the_process_has_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task server has a file for each connection."""
    monkeypatch.setattr(outbox_worker, "_HOUSEKEEPING_SECONDS", 86400)
    committed, low = socket.socketpair()
    commits = with_high_number(low)
    monkeypatch.setattr(outbox_worker, "listen", lambda *_: commits)
    with committed:
        async with serving(Outbox(engine, "kubernetes"), poll_seconds=86400) as worker:
            put(engine, "0", name="newer")
            committed.send(b".")
            await eventually_async(lambda: worker.counts.done == 1, "the thread has claimed it")
    assert rows(engine) == []
