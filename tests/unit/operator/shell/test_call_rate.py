from __future__ import annotations

import asyncio

import pytest
from tests.unit.operator.shell.clockwork import run

from spoke_jobs.shared.api_errors import LONGEST_PAUSE_SECONDS
from spoke_jobs_operator.shell.api.call_rate import CallRate


def rate(per_second: float, burst: float) -> CallRate:
    return CallRate(per_second, burst, clock=asyncio.get_running_loop().time)


async def times_of(each: CallRate, calls: int) -> list[float]:
    """When each of so many calls, asked for together, has its turn."""
    times: list[float] = []

    async def call() -> None:
        await each.turn()
        times.append(asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            group.create_task(call())
    return times


def test_so_many_at_once_and_then_at_the_steady_rate() -> None:
    async def main() -> None:
        assert await times_of(rate(10, 3), 6) == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])

    run(main())


def test_a_quiet_time_fills_the_bucket_and_no_more_than_that() -> None:
    async def main() -> None:
        each = rate(10, 3)
        await times_of(each, 3)
        await asyncio.sleep(0.2)
        assert await times_of(each, 3) == pytest.approx([0.2, 0.2, 0.3])
        await asyncio.sleep(1000)
        assert await times_of(each, 4) == pytest.approx([1000.3, 1000.3, 1000.3, 1000.4])

    run(main())


@pytest.mark.parametrize("burst", [5.0, float("inf")])
def test_a_pause_holds_for_those_that_wait_already_too(burst: float) -> None:
    async def main() -> None:
        each = rate(10, burst)
        asyncio.get_running_loop().call_later(0.05, each.pause, 2.0)
        await times_of(each, 5)
        await asyncio.sleep(0.05)
        assert min(await times_of(each, 3)) == pytest.approx(2.05)
        each.pause(5)
        each.pause(1)
        assert min(await times_of(each, 1)) >= 7, "a shorter one doesn't end a longer one"

    run(main())


def test_no_pause_is_for_ever() -> None:
    async def main() -> None:
        each = rate(10, 5)
        each.pause(1e9)
        assert await times_of(each, 1) == [LONGEST_PAUSE_SECONDS]

    run(main())


def test_without_a_cap_nobody_waits() -> None:
    async def main() -> None:
        assert await times_of(CallRate(), 1000) == [0.0] * 1000

    run(main())


def test_the_namespaces_take_turns() -> None:
    async def main() -> None:
        each = rate(10, 1)
        served: list[str] = []

        async def call(namespace: str) -> None:
            await each.turn(namespace)
            served.append(namespace)

        async with asyncio.TaskGroup() as group:
            for namespace in (*["a"] * 6, "b", "c", "b"):
                group.create_task(call(namespace))
        assert "".join(served) == "aabcabaaa"
        assert asyncio.get_running_loop().time() == pytest.approx(0.8), "at the rate of all together"

    run(main())


def test_a_cancelled_caller_takes_nobodys_turn() -> None:
    async def main() -> None:
        each = rate(10, 1)
        await each.turn()
        given_up = asyncio.create_task(each.turn("a"))
        await asyncio.sleep(0)
        given_up.cancel()
        await times_of(each, 2)
        assert asyncio.get_running_loop().time() <= 0.3

    run(main())
