"""The executor alone: bounds, joining, remembering, and its end."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy.orm import Session
from tests.waiting import eventually_async, patient

from spoke_jobs import Registry, TaskContext
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.errors import Discard
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.slots import WaitingTasks
from spoke_jobs.tasks.server.task_run import OutboxClaim

registry = Registry()
state: dict[str, int] = {}
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
    released.wait(patient(30))


@registry.task("aheld")
async def aheld(ctx: TaskContext, payload: Any) -> None:
    await asyncio.Event().wait()


@registry.task("cancels_itself")
async def cancels_itself(ctx: TaskContext, payload: Any) -> None:
    raise asyncio.CancelledError


@registry.task("is_cancelled")
async def is_cancelled(ctx: TaskContext, payload: Any) -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.Event().wait()


@registry.task("pauses")
async def pauses(ctx: TaskContext, payload: Any) -> None:
    released.wait(patient(30))  # and its loop with it


@registry.task("cancels_all")
async def cancels_all(ctx: TaskContext, payload: Any) -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.Event().wait()


@registry.task("swallows", timeout_seconds=0.05)
async def swallows(ctx: TaskContext, payload: Any) -> None:
    """Is cancelled once, as by a library's own timeout, makes nothing of it, and then takes too long."""
    with suppress(asyncio.CancelledError):
        await is_cancelled(ctx, payload)
    await asyncio.Event().wait()


@registry.task("hangs", timeout_seconds=0.05, backoff_seconds=7)
def hangs(ctx: TaskContext, payload: Any) -> None:
    assert ctx.remaining_seconds is not None
    state["left"] = round(ctx.remaining_seconds * 1000)
    released.wait(patient(30))
    state["left"] = round(ctx.remaining_seconds * 1000)


@registry.task("ahangs", timeout_seconds=0.05)
async def ahangs(ctx: TaskContext, payload: Any) -> None:
    await asyncio.Event().wait()


@registry.task("blocks", timeout_seconds=0.05)
async def blocks(ctx: TaskContext, payload: Any) -> None:
    released.wait(patient(30))


@registry.task("waits", timeout_seconds=0.5)
async def waits(ctx: TaskContext, payload: Any) -> None:
    await asyncio.Event().wait()


@registry.task("quick")
def quick(ctx: TaskContext, payload: Any) -> None:
    pass


@registry.task("aquick")
async def aquick(ctx: TaskContext, payload: Any) -> None:
    pass


@registry.task("counts", attempts=1)
def counts(ctx: TaskContext, payload: Any) -> None:
    state["ran"] += 1
    raise ValueError("each time")


@registry.task("discards")
def discards(ctx: TaskContext, payload: Any) -> None:
    raise Discard("nobody wants it")


@registry.task("recurses")
def recurses(ctx: TaskContext, payload: Any) -> None:
    recurses(ctx, payload)


@registry.task("awaited")
def awaited(ctx: TaskContext, payload: Any) -> Any:
    return asyncio.sleep(0)


@pytest.fixture(autouse=True)
def fresh() -> None:
    state.clear()
    state.update(now=0, most=0, ran=0)
    released.clear()


def executor_of(concurrency: int = 4, limit: int = 100, **more: Any) -> TaskExecutor:
    executor = TaskExecutor(registry, concurrency=concurrency, limit=limit, **more)
    executor.start()
    return executor


async def run(executor: TaskExecutor, *tasks: Task, claim: OutboxClaim | None = None) -> list[Acknowledgement]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Acknowledgement]] = []
    for task in tasks:
        future = loop.create_future()
        executor.accept(task, future.set_result, claim)
        futures.append(future)
    async with asyncio.timeout(patient(30)):
        return await asyncio.gather(*futures)


@pytest.mark.parametrize("name", ["counted", "acounted"])
async def test_no_more_run_at_once_than_may(name: str) -> None:
    executor = executor_of(concurrency=4)
    acks = await run(executor, *(Task(str(number), name, "1") for number in range(60)))
    assert {ack.outcome for ack in acks} == {TaskOutcome.DONE}
    assert (state["now"], state["most"]) == (0, 4)
    assert await executor.finish(1) == 0


async def test_room_is_what_has_not_ended() -> None:
    executor = executor_of(concurrency=1, limit=3)
    acks: list[Acknowledgement] = []
    for number in range(3):
        executor.accept(Task(str(number), "held", "1"), acks.append)
    assert executor.room == 0
    assert executor.knows(Task("0", "held", "1"))
    assert not executor.knows(Task("9", "held", "1"))
    released.set()
    assert await executor.finish(10) == 0
    assert executor.room == 3
    assert len(acks) == 3


async def test_the_end_returns_what_is_left_and_nothing_is_answered_twice() -> None:
    executor = executor_of(concurrency=1)
    acks: list[Acknowledgement] = []
    names = ["held", "held", "aheld", "aheld"]
    for number, name in enumerate(names):
        executor.accept(Task(str(number), name, "1"), acks.append)
    await asyncio.sleep(0)
    assert await executor.finish(0.05) == 4
    released.set()
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert sorted(ack.id or "" for ack in acks) == ["0", "1", "2", "3"]
    assert {(ack.outcome, ack.cause) for ack in acks} == {(TaskOutcome.RETURNED, TaskCause.DRAINING)}
    assert not executor.knows(Task("0", "held", "1"))  # what was returned isn't remembered as ended
    executor.accept(Task("late", "held", "1"), acks.append)
    assert acks[-1] == Acknowledgement("late", TaskOutcome.RETURNED, TaskCause.DRAINING)


async def test_a_task_cancelled_by_another_before_its_first_step_is_returned_and_leaves_its_slot() -> None:
    executor = executor_of(concurrency=3)
    acks: dict[str | None, Acknowledgement] = {}
    executor.accept(Task("pauses", "pauses", "1"), lambda ack: acks.update({ack.id: ack}))
    await eventually_async(lambda: executor.running == 1)
    for name in ("cancels_all", "aheld"):  # they begin in one step, after the pause
        executor.accept(Task(name, name, "1"), lambda ack: acks.update({ack.id: ack}))
    released.set()
    await eventually_async(lambda: len(acks) == 3)
    assert acks["pauses"].outcome is TaskOutcome.DONE
    assert acks["cancels_all"].outcome is TaskOutcome.FAILED
    assert acks["aheld"].outcome is TaskOutcome.RETURNED
    assert (executor.running, executor.unfinished) == (0, 0)
    await executor.finish(1)


async def test_a_task_over_its_time_is_answered_for_and_keeps_its_slot_until_it_ends() -> None:
    executor = executor_of(concurrency=3)
    (ack,) = await run(executor, Task("a", "hangs", "1"))
    assert (ack.outcome, ack.cause, ack.retry_seconds) == (TaskOutcome.FAILED, TaskCause.TIMEOUT, 7)
    assert 0 < state["left"] <= 50
    assert (executor.running, executor.hung, executor.unfinished) == (1, 1, 0)
    (other,) = await run(executor, Task("b", "quick", "1"))
    assert other.outcome is TaskOutcome.DONE
    released.set()
    await eventually_async(lambda: executor.running == 0)
    assert (executor.hung, state["left"]) == (0, 0)
    await executor.finish(1)


async def test_who_blocks_its_loop_is_timed_out_who_waits_for_it_is_given_back_and_no_def_task_is_delayed() -> None:
    executor = executor_of()
    acks: list[Acknowledgement] = []
    for name in ("waits", "blocks"):
        executor.accept(Task(name, name, "1"), acks.append)
    await eventually_async(lambda: executor.running == 2)
    (ack,) = await run(executor, Task("b", "quick", "1"))
    assert (ack.outcome, acks) == (TaskOutcome.DONE, [])
    await eventually_async(lambda: len(acks) == 2)
    assert {(ack.id, ack.outcome, ack.cause) for ack in acks} == {
        ("blocks", TaskOutcome.FAILED, TaskCause.TIMEOUT),
        ("waits", TaskOutcome.RETURNED, TaskCause.HELD_UP),
    }
    released.set()
    await executor.finish(1)


@pytest.mark.parametrize(("name", "concurrency", "seconds"), [("hangs", 2, 600.0), ("blocks", 8, 0.1)])
async def test_slots_lost_to_tasks_that_hang_have_the_process_restarted(
    name: str, concurrency: int, seconds: float
) -> None:
    """A coroutine that blocks its loop for ever keeps one slot, and all that would run in the others from running."""
    why: list[str] = []
    executor = executor_of(concurrency=concurrency, hung_seconds=seconds, on_stuck=why.append)
    await run(executor, Task("a", name, "1"))
    await eventually_async(lambda: bool(why))
    assert "1 tasks hang" in why[0]
    released.set()
    await executor.finish(1)
    assert len(why) == 1


async def test_a_restart_hands_back_at_once_what_has_not_begun() -> None:
    executor = executor_of(concurrency=1)
    acks: dict[str | None, Acknowledgement] = {}
    for task_id, name in (("begun", "held"), ("waits", "held"), ("abegun", "aheld"), ("awaits", "aheld")):
        executor.accept(Task(task_id, name, "1"), lambda ack: acks.update({ack.id: ack}))
    await eventually_async(lambda: executor.running == 2)
    ending = asyncio.ensure_future(executor.finish(0.3, running_only=True))
    await asyncio.sleep(0)
    assert {task_id: ack.outcome for task_id, ack in acks.items()} == dict.fromkeys(
        ["waits", "awaits"], TaskOutcome.RETURNED
    )
    released.set()
    assert await ending == 3
    assert acks["begun"].outcome is TaskOutcome.DONE
    assert acks["abegun"].outcome is TaskOutcome.RETURNED


@pytest.mark.parametrize(
    ("name", "attempt", "outcome", "cause", "detail"),
    [
        ("cancels_itself", 1, TaskOutcome.FAILED, TaskCause.TASK_ERROR, "CancelledError"),
        ("is_cancelled", 1, TaskOutcome.FAILED, TaskCause.TASK_ERROR, "CancelledError"),
        ("swallows", 1, TaskOutcome.FAILED, TaskCause.TIMEOUT, ""),
        ("ahangs", 3, TaskOutcome.FAILED_FOR_GOOD, TaskCause.TIMEOUT, ""),
        ("discards", 1, TaskOutcome.FAILED_FOR_GOOD, TaskCause.DISCARDED, "Discard"),
        ("recurses", 1, TaskOutcome.FAILED, TaskCause.TASK_ERROR, "RecursionError"),
        ("awaited", 1, TaskOutcome.DONE, "", ""),
    ],
)
async def test_how_a_task_may_end(name: str, attempt: int, outcome: TaskOutcome, cause: str, detail: str) -> None:
    executor = executor_of()
    (ack,) = await run(executor, Task("a", name, "1", attempt))
    assert (ack.outcome, ack.cause, ack.detail, executor.hung) == (outcome, cause, detail, 0)
    assert executor.knows(Task("a", name, "1", attempt))
    assert executor.knows(Task("a", name, "1", attempt + 1)) == (outcome is not TaskOutcome.FAILED), "that takes room"
    await executor.finish(1)


class Held:
    """A claim."""

    def fence(self, session: Session) -> None:
        pass

    def finish(self, session: Session) -> None:
        pass


async def test_a_failed_task_of_the_outbox_that_is_claimed_again_is_run_again_with_what_its_row_says_now() -> None:
    executor = executor_of()
    (ack,) = await run(executor, Task("a", "counts", "1"), claim=Held())
    assert ack.outcome is TaskOutcome.FAILED_FOR_GOOD
    for payload in ("1", "2"):
        (ack,) = await run(executor, Task("a", "counts", payload), claim=Held())
        assert ack.outcome is TaskOutcome.FAILED_FOR_GOOD
    assert state["ran"] == 3
    await executor.finish(1)


async def test_a_task_of_the_outbox_that_has_run_is_not_run_again_because_its_end_was_not_recorded() -> None:
    executor = executor_of()
    for _ in range(2):
        (ack,) = await run(executor, Task("a", "counted", "1"), claim=Held())
        assert ack.outcome is TaskOutcome.DONE
    assert (executor.counts.accepted, executor.counts.recalled) == (1, 1)
    await executor.finish(1)


@pytest.mark.parametrize(("names", "claims_first"), [(("held", "quick"), True), (("pauses", "aquick"), False)])
async def test_requests_and_outbox_are_run_in_turns_however_many_of_the_one_wait(
    names: tuple[str, str], claims_first: bool
) -> None:
    executor = executor_of(concurrency=1)
    order: list[str] = []
    executor.accept(Task("first", names[0], "1"), lambda _: None)
    await eventually_async(lambda: executor.running == 1)
    crowd, few = (Held(), None) if claims_first else (None, Held())
    for number in range(40):
        executor.accept(Task(f"crowd-{number}", names[1], "1"), lambda ack: order.append(ack.id or ""), crowd)
    for number in range(5):
        executor.accept(Task(f"few-{number}", names[1], "1"), lambda ack: order.append(ack.id or ""), few)
    released.set()
    assert await executor.finish(10) == 0
    assert len(order) == 45
    assert order.index("few-4") < 12


@pytest.mark.parametrize("claim", [Held(), None])
async def test_some_places_of_the_queue_are_kept_for_the_outbox_and_some_for_requests(
    claim: OutboxClaim | None,
) -> None:
    executor = executor_of(concurrency=1, limit=10, reserved=2)
    assert (executor.room, executor.room_for_claims) == (8, 8)
    for number in range(8):
        executor.accept(Task(f"crowd-{number}", "held", "1"), lambda _: None, claim)
    assert (executor.room, executor.room_for_claims) == ((0, 2) if claim is None else (2, 0))
    for number in range(2):
        executor.accept(Task(f"few-{number}", "held", "1"), lambda _: None, Held() if claim is None else None)
    assert (executor.room, executor.room_for_claims) == (0, 0)
    released.set()
    assert await executor.finish(10) == 0
    assert (executor.room, executor.room_for_claims) == (8, 8)


async def test_a_task_that_comes_just_as_the_last_thread_goes_to_sleep_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = TaskExecutor(registry, concurrency=1, limit=10)
    take, came = WaitingTasks.take, threading.Event()
    acks: list[Acknowledgement] = []

    def take_before_it_comes(waiting: WaitingTasks) -> Any:
        found = take(waiting)
        if found is None and threading.current_thread().name == "spoke-task-0" and not came.is_set():
            came.set()
            executor.accept(Task("a", "quick", "1"), acks.append)
        return found

    monkeypatch.setattr(WaitingTasks, "take", take_before_it_comes)
    executor.start()
    await eventually_async(lambda: bool(acks))
    await executor.finish(1)


async def test_waiting_and_running_are_measured() -> None:
    executor = executor_of()
    await run(executor, Task("a", "counted", "1", 1, 2.0))
    assert executor.counts.waited.total >= 2.0
    assert 0.004 < executor.counts.ran.total < 2.0
    assert sum(executor.counts.ran.counts) == 1
    await executor.finish(1)
