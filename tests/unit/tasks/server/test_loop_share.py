"""Work for callers without credentials leaves the event loop most of its time, whatever it costs and starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.waiting import eventually_async, patient

from spoke_jobs.tasks.server.loop_share import REST, SLICE_SECONDS, LoopShare

COST = 0.001


class Processor:
    """Processor time that passes only when it is used."""

    def __init__(self) -> None:
        self.used = 0.0

    def __call__(self) -> float:
        return self.used

    def use(self) -> None:
        self.used += COST


@pytest.fixture
def processor() -> Processor:
    return Processor()


@pytest.fixture
def share(processor: Processor) -> LoopShare:
    return LoopShare(processor)


async def test_each_peer_has_its_turn_however_much_another_one_has_sent(share: LoopShare) -> None:
    went: list[str] = []
    for peer in [*["flood"] * 500, "good"]:
        share.run(peer, lambda peer=peer: went.append(peer))
    await eventually_async(lambda: "good" in went, every=0)
    assert went.index("good") <= 1


async def test_forgotten_work_takes_no_memory_and_no_turn(share: LoopShare) -> None:
    went: list[str] = []
    forgotten = {peer: share.run(peer, lambda: went.append("forgotten")) for peer in "ab"}
    share.run("a", lambda: went.append("kept"))
    for peer, number in [*forgotten.items(), *forgotten.items()]:
        share.forget(peer, number)
    assert share.waiting == 1
    await eventually_async(lambda: bool(went), every=0)
    assert went == ["kept"]
    assert share.waiting == 0


started: list[asyncio.Future[None]] = []


def at_once(use: Callable[[], None]) -> None:
    use()


def in_a_callback(use: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, use)


def in_a_task(use: Callable[[], None]) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        use()

    started.append(asyncio.ensure_future(later()))


@pytest.mark.parametrize("how", [at_once, in_a_callback, in_a_task])
async def test_the_loop_is_left_to_others_for_twice_the_time_that_work_takes(
    share: LoopShare, processor: Processor, how: Callable[[Callable[[], None]], None]
) -> None:
    loop = asyncio.get_running_loop()
    began, done = loop.time(), list[float]()
    for number in range(40):
        share.run(str(number % 3), lambda: how(processor.use))
    share.run("last", lambda: None)
    for _ in range(40):
        share.run("last", lambda: done.append(loop.time()))
    await eventually_async(lambda: len(done) == 40, every=0)
    assert done[-1] - began >= 0.9 * REST * 40 * COST


async def longest_slice(processor: Processor, over: Callable[[], bool]) -> float:
    """The most time that is used between two passes of the loop until then."""
    longest = 0.0
    while not over():
        before = processor.used
        await asyncio.sleep(0)
        longest = max(longest, processor.used - before)
    return longest


async def test_a_slice_whose_time_is_used_up_does_no_more(share: LoopShare, processor: Processor) -> None:
    """It may do many pieces, because those before took no time."""
    for _ in range(100):
        share.run("a", lambda: None)
    for _ in range(100):
        share.run("a", processor.use)
    assert await longest_slice(processor, lambda: not share.waiting) <= SLICE_SECONDS + 0.5 * COST


async def test_others_wait_for_no_more_than_a_slice(share: LoopShare, processor: Processor) -> None:
    for number in range(60):
        share.run(str(number % 3), processor.use)
    assert await longest_slice(processor, lambda: processor.used >= 59.5 * COST) <= SLICE_SECONDS + 1.5 * COST


async def test_first_work_overtakes_all_that_waits(share: LoopShare) -> None:
    went: list[str] = []
    for _ in range(100):
        share.run("a", lambda: went.append("a"))
    await eventually_async(lambda: bool(went), every=0)
    share.run_first(lambda: went.append("first"))
    await eventually_async(lambda: "first" in went, every=0)
    assert went.index("first") < 20


async def test_an_error_and_a_cancelled_caller_hold_up_nobody(
    share: LoopShare, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    share.run("a", fail)
    going = [asyncio.ensure_future(share.take("a")) for _ in range(3)]
    await asyncio.sleep(0)
    going[0].cancel()
    async with asyncio.timeout(patient(60)):
        await asyncio.gather(*going[1:])
        await share.take("b")
    assert "no such thing" in caplog.text


async def test_who_runs_within_a_slice_has_its_turn_already(share: LoopShare) -> None:
    went: list[str] = []

    async def answer() -> None:
        await share.take("a")
        went.append("answer")

    share.run("a", lambda: started.append(asyncio.ensure_future(answer())))
    for _ in range(50):
        share.run("a", lambda: went.append("later"))
    await eventually_async(lambda: "answer" in went, every=0)
    assert "later" not in went
