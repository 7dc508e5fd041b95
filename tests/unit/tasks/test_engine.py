"""The engine alone: bounds, joining, remembering, and its end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from spoke_jobs import Registry, TaskContext
from spoke_jobs.tasks.engine import Engine
from spoke_jobs.tasks.wire import Acknowledgement, Outcome, Task, TaskCause

registry = Registry()
state: dict[str, int] = {"now": 0, "most": 0}
lock = threading.Lock()
released = threading.Event()


def enter(change: int) -> None:
    with lock:
        state["now"] += change
        state["most"] = max(state["most"], state["now"])


@registry.task("counted")
def counted(ctx: TaskContext, payload: Any) -> None:
    enter(1)
    threading.Event().wait(0.005)
    enter(-1)


@registry.task("acounted")
async def acounted(ctx: TaskContext, payload: Any) -> None:
    enter(1)
    await asyncio.sleep(0.005)
    enter(-1)


@registry.task("held")
def held(ctx: TaskContext, payload: Any) -> None:
    released.wait(20)


@registry.task("aheld")
async def aheld(ctx: TaskContext, payload: Any) -> None:
    await asyncio.Event().wait()


@registry.task("cancels_itself")
async def cancels_itself(ctx: TaskContext, payload: Any) -> None:
    raise asyncio.CancelledError


@pytest.fixture(autouse=True)
def fresh() -> None:
    state.update(now=0, most=0)
    released.clear()


def engine_of(concurrency: int = 4, limit: int = 100) -> Engine:
    engine = Engine(registry, concurrency=concurrency, limit=limit)
    engine.start()
    return engine


async def run(engine: Engine, *tasks: Task) -> list[Acknowledgement]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Acknowledgement]] = []
    for task in tasks:
        future = loop.create_future()
        engine.accept(task, future.set_result)
        futures.append(future)
    async with asyncio.timeout(20):
        return await asyncio.gather(*futures)


@pytest.mark.parametrize("name", ["counted", "acounted"])
async def test_no_more_run_at_once_than_may(name: str) -> None:
    engine = engine_of(concurrency=4)
    acks = await run(engine, *(Task(str(number), name, "1") for number in range(60)))
    assert {ack.outcome for ack in acks} == {Outcome.DONE}
    assert state == {"now": 0, "most": 4}
    assert await engine.finish(1) == 0


async def test_room_is_what_has_not_ended() -> None:
    engine = engine_of(concurrency=1, limit=3)
    acks: list[Acknowledgement] = []
    for number in range(3):
        engine.accept(Task(str(number), "held", "1"), acks.append)
    assert engine.room == 0
    assert engine.knows(Task("0", "held", "1"))
    assert not engine.knows(Task("9", "held", "1"))
    released.set()
    assert await engine.finish(10) == 0
    assert engine.room == 3
    assert len(acks) == 3


async def test_the_end_returns_what_is_left_and_nothing_is_answered_twice() -> None:
    engine = engine_of(concurrency=1)
    acks: list[Acknowledgement] = []
    names = ["held", "held", "aheld", "aheld"]
    for number, name in enumerate(names):
        engine.accept(Task(str(number), name, "1"), acks.append)
    await asyncio.sleep(0)
    assert await engine.finish(0.05) == 4
    released.set()
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert sorted(ack.id or "" for ack in acks) == ["0", "1", "2", "3"]
    assert {(ack.outcome, ack.cause) for ack in acks} == {(Outcome.RETURNED, TaskCause.DRAINING)}
    assert not engine.knows(Task("0", "held", "1"))  # what was returned isn't remembered as ended
    engine.accept(Task("late", "held", "1"), acks.append)
    assert acks[-1] == Acknowledgement("late", Outcome.RETURNED, TaskCause.DRAINING)


async def test_a_task_that_cancels_itself_has_failed() -> None:
    engine = engine_of()
    (ack,) = await run(engine, Task("a", "cancels_itself", "1"))
    assert (ack.outcome, ack.detail) == (Outcome.FAILED, "CancelledError")
    assert not engine.knows(Task("a", "cancels_itself", "1", 2))  # its next attempt takes room
    assert engine.knows(Task("a", "cancels_itself", "1", 1))
    await engine.finish(1)
