from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.waiting import eventually_async, patient

from spoke_jobs.shared.backoff import Backoff
from spoke_jobs_operator.shell.reconciling.workqueue import WorkQueue


@asynccontextmanager
async def working(queue: WorkQueue[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_key_waits_once() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    queue = WorkQueue(handle, workers=4)
    for key in "abaab":
        queue.add(key)
    assert len(queue) == 2
    async with working(queue):
        await eventually_async(lambda: len(queue) == 0)
    assert handled == ["a", "b"]


async def test_the_urgent_come_first_and_leave_the_others_every_fourth_turn() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    queue = WorkQueue(handle, workers=1)
    for key in "xy":
        queue.add(key)
    for key in "abcdefg":
        queue.add(key, first=True)
    async with working(queue):
        await eventually_async(lambda: len(queue) == 0)
    assert "".join(handled) == "abcxdefyg"


async def test_one_worker_to_a_key_and_news_meanwhile_is_not_lost() -> None:
    busy: set[str] = set()
    rounds = 0
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal rounds
        assert key not in busy
        busy.add(key)
        rounds += 1
        entered.set()
        if rounds == 1:
            await leave.wait()
        busy.discard(key)

    queue = WorkQueue(handle, workers=4)
    queue.add("a")
    async with working(queue):
        await entered.wait()
        queue.add("a")
        queue.add("a")
        leave.set()
        await eventually_async(lambda: rounds == 2)
        await asyncio.sleep(0.02)
    assert rounds == 2


async def test_different_keys_are_worked_on_together() -> None:
    meeting = asyncio.Barrier(3)

    async def handle(key: str) -> None:
        await meeting.wait()

    queue = WorkQueue(handle, workers=4)
    for key in "abc":
        queue.add(key)
    async with working(queue), asyncio.timeout(patient(30)):
        await eventually_async(lambda: meeting.n_waiting == 0 and len(queue) == 0)


async def test_an_error_is_its_keys_own_and_waits_longer_each_time() -> None:
    handled: list[str] = []
    delays: list[float] = []

    async def handle(key: str) -> None:
        handled.append(key)
        if key == "bad" and handled.count("bad") < 5:
            raise ValueError(key)

    def report(key: str, error: Exception, delay: float) -> None:
        assert (key, str(error)) == ("bad", "bad")
        delays.append(delay)

    queue = WorkQueue(handle, workers=1, backoff=Backoff(0.004, 0.02), on_error=report)
    queue.add("bad")
    queue.add("good")
    async with working(queue):
        await eventually_async(lambda: handled.count("bad") == 5)
        queue.add("bad")
        await eventually_async(lambda: handled.count("bad") == 6)
    assert delays == [0.004, 0.008, 0.016, 0.02]
    assert handled[:2] == ["bad", "good"]


async def test_success_ends_the_backoff() -> None:
    outcomes = iter(["fail", "fail", "succeed", "fail", "succeed"])
    handled: list[str] = []
    delays: list[float] = []

    async def handle(key: str) -> None:
        handled.append(next(outcomes))
        if handled[-1] == "fail":
            raise ValueError

    queue = WorkQueue(
        handle, workers=4, backoff=Backoff(0.001, 60), on_error=lambda _key, _error, delay: delays.append(delay)
    )
    async with working(queue):
        queue.add("a")
        await eventually_async(lambda: len(handled) == 3)
        queue.add("a")
        await eventually_async(lambda: len(handled) == 5)
    assert delays == [0.001, 0.002, 0.001]


async def test_later_and_the_earlier_of_two_times_counts() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(loop.time())

    queue = WorkQueue(handle, workers=4)
    async with working(queue):
        started = loop.time()
        queue.add_after("a", 10)
        queue.add_after("a", 0.03)
        queue.add_after("a", 10)
        await eventually_async(lambda: len(times) == 1)
        assert 0.03 <= times[0] - started < 10
        queue.add_after("a", 10)
        queue.add("a")
        await eventually_async(lambda: len(times) == 2)
        queue.add_after("a", 0.01)
        queue.forget("a")
        await asyncio.sleep(0.03)
    assert len(times) == 2


async def test_how_long_a_key_waits_for_a_worker_is_told() -> None:
    loop = asyncio.get_running_loop()
    waited: list[float] = []
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)
        await asyncio.sleep(0.03)

    queue = WorkQueue(handle, workers=1, on_taken=waited.append)
    added_at = loop.time()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    queue.add_after("c", 0.01)
    async with working(queue):
        await eventually_async(lambda: len(handled) == 3)
        all_of_it = loop.time() - added_at
    assert len(waited) == 3, "once for each time that a key is taken"
    assert 0 <= waited[0] < 0.03 <= waited[1] <= all_of_it
    assert waited[2] <= all_of_it - 0.01, "a time that was planned is not waiting"


async def test_the_groups_take_turns_and_none_takes_all_workers() -> None:
    handled: list[str] = []
    leave = asyncio.Event()

    async def handle(key: str) -> None:
        handled.append(key)
        await leave.wait()

    queue = WorkQueue(handle, workers=8, group=lambda key: key[0])
    for number in range(100):
        queue.add(f"a{number}")
    async with working(queue):
        await eventually_async(lambda: len(handled) == 6)
        await asyncio.sleep(0.02)
        assert handled == [f"a{number}" for number in range(6)], "a quarter of the workers is left for other groups"
        queue.add("b0")
        await eventually_async(lambda: "b0" in handled)
        leave.set()
        await eventually_async(lambda: len(handled) > 20)
        queue.add("b1")
        taken = len(handled)
        await eventually_async(lambda: "b1" in handled)
        assert handled.index("b1") <= taken + 2, "after the key that was taken already, and one turn"


async def test_handlers_that_never_wait_leave_time_to_the_event_loop() -> None:
    """The calls that renew the Lease run in the same event loop."""
    handled: list[str] = []
    between: list[int] = []

    async def handle(key: str) -> None:
        handled.append(key)

    queue = WorkQueue(handle, workers=16)
    for number in range(200):
        queue.add(str(number))
    async with working(queue):
        while len(handled) < 200:
            before = len(handled)
            await asyncio.sleep(0)
            between.append(len(handled) - before)
    assert max(between) == 1
