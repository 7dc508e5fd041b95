from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.shell.clockwork import run

from spoke_jobs.shared.api_errors import ApiError, api_error
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.process.election import LeaseTimes
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.process.leadership import ByLease, Leadership

KEY = Key("platform", "spoke-operator")
TIMES = LeaseTimes(lasts=15, renewed_within=10, retry=2)


class Server:
    """The API server, as far as one Lease goes."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.hangs = False
        self.refuses: ApiError | None = None
        self.around: Callable[[], Awaitable[None]] | None = None
        """What happens to each call on its way there, and to its answer on the way back."""

    async def read_lease(self, key: Key) -> dict[str, Any] | None:
        await self._way()
        lease = deepcopy(self.lease)
        await self._way()
        return lease

    async def write_lease(self, key: Key, spec: Mapping[str, Any], resource_version: str | None) -> dict[str, Any]:
        await self._way()
        if resource_version != (self.lease["metadata"]["resourceVersion"] if self.lease else None):
            raise api_error(409, "Conflict", "changed since")
        self.put(spec)
        written = deepcopy(self.lease)
        await self._way()
        assert written
        return written

    def put(self, spec: Mapping[str, Any]) -> None:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(spec)}

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    async def _way(self) -> None:
        if self.hangs:
            await asyncio.sleep(10_000)
        if self.refuses:
            raise self.refuses
        if self.around:
            await self.around()


def elector(server: Server, identity: str = "me", offset: float = 0.0, times: LeaseTimes = TIMES) -> ByLease:
    loop = asyncio.get_running_loop()
    return ByLease(cast(Client, server), KEY, identity, times, clock=lambda: loop.time() + offset)


def now() -> float:
    return asyncio.get_running_loop().time()


async def gained_after(one: ByLease) -> float:
    begun = now()
    await one.gained()
    assert one.leads()
    return now() - begun


async def lost_after(one: ByLease) -> float:
    begun = now()
    await one.lost()
    assert not one.leads()
    return now() - begun


def test_a_free_lease_is_taken_at_once_and_one_s_own_too() -> None:
    async def main() -> None:
        server = Server()
        assert not elector(server).leads()
        assert await gained_after(elector(server)) == 0
        assert server.holder == "me"
        assert await gained_after(elector(server)) == 0, "the process before this one was of the same name"
        server.put({"holderIdentity": "", "leaseDurationSeconds": 15})
        assert await gained_after(elector(server, "other")) == 0

    run(main())


def test_one_that_is_renewed_is_never_taken() -> None:
    async def main() -> None:
        server = Server()
        leader, standby = elector(server, "leader"), elector(server, "standby")
        await leader.gained()
        lost, gained = asyncio.create_task(leader.lost()), asyncio.create_task(standby.gained())
        await asyncio.sleep(3600)
        assert leader.leads()
        assert not lost.done()
        assert not gained.done()
        assert server.version > 1000
        lost.cancel()
        await gained
        assert 12 <= now() - 3600 <= 17, "once it is renewed no more"

    run(main())


def test_an_api_server_that_hangs_ends_the_lead_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server()
        one = elector(server)
        await one.gained()
        server.hangs = True
        assert 8 <= await lost_after(one) <= TIMES.renewed_within

    run(main())
    assert caplog.messages[-1] == "this replica no longer leads: the Lease could not be renewed in time"


@pytest.mark.parametrize(
    "error", [api_error(0, "NoAnswer", "refused"), api_error(500, "X", "x"), api_error(403, "X", "x")]
)
def test_errors_end_the_lead_only_when_they_last(error: ApiError, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server()
        one = elector(server)
        await one.gained()
        lost = asyncio.create_task(one.lost())
        server.refuses = error
        await asyncio.sleep(7)
        server.refuses = None
        await asyncio.sleep(100)
        assert one.leads()
        assert not lost.done()
        server.refuses = error
        begun = now()
        await lost
        assert now() - begun <= TIMES.renewed_within

    with caplog.at_level(logging.INFO):
        run(main())
    assert len([text for text in caplog.messages if text.startswith("could not acquire or renew the Lease")]) == 2, (
        "not each time"
    )


def test_one_that_another_has_taken_is_lost_at_the_next_look(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server()
        one = elector(server)
        await one.gained()
        server.put({"holderIdentity": "other", "leaseDurationSeconds": 15})
        assert await lost_after(one) <= TIMES.retry
        assert server.holder == "other"
        await one.release()
        assert server.holder == "other", "what isn't ours isn't given away"

    run(main())
    assert caplog.messages[-1] == "this replica no longer leads: another replica holds the Lease"


def test_released_it_is_another_s_at_its_next_look() -> None:
    async def main() -> None:
        server = Server()
        leader, standby = elector(server, "leader"), elector(server, "standby")
        await leader.gained()
        gained = asyncio.create_task(standby.gained())
        await asyncio.sleep(5)
        begun = now()
        await leader.release()
        assert not leader.leads()
        await gained
        assert now() - begun <= TIMES.retry
        assert server.lease
        assert server.lease["spec"]["leaseTransitions"] == 1

    run(main())


def test_a_release_that_hangs_delays_nobody_s_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server()
        one = elector(server)
        await one.gained()
        server.hangs = True
        begun = now()
        await one.release()
        assert now() - begun <= TIMES.retry
        assert not one.leads()

    run(main())
    assert caplog.messages[-1].startswith("could not release the Lease")


def test_one_that_was_stopped_while_it_took_the_lease_does_not_lead() -> None:
    async def main() -> None:
        server, loop, stopped = Server(), asyncio.get_running_loop(), [0.0]
        calls = itertools.count(1)

        async def stop() -> None:
            stopped[0] += TIMES.renewed_within if next(calls) == 4 else 0.0  # with the answer to the write

        server.around = stop
        one = ByLease(cast(Client, server), KEY, "me", TIMES, clock=lambda: loop.time() + stopped[0])
        await one.gained()
        assert one.leads(), "gained is only what lasts still"

    run(main())


def test_a_lead_counts_from_before_its_renewal_was_sent() -> None:
    async def main() -> None:
        server = Server()
        calls = itertools.count(1)

        async def slow() -> None:
            if next(calls) == 4:
                await asyncio.sleep(7)
                server.hangs = True

        server.around = slow
        one = elector(server)
        await one.gained()
        await one.lost()
        assert now() <= TIMES.renewed_within, "others may have seen the renewal 7 s before its answer came"

    run(main())


class Duel:
    """Two replicas of one Lease, with little time between a holder's end and the other's turn.

    Calls fail before or after their effect, take their time, or find the whole process stopped.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.server = Server()
        self.server.around = self.around
        self.electors: dict[str, ByLease] = {}
        self.leading: set[str] = set()
        self._cut_off: dict[str, float] = {}

    def look(self) -> None:
        leads = [name for name, one in self.electors.items() if one.leads()]
        assert len(leads) <= 1, f"{leads} lead, at {now()}"
        self.leading.update(leads)

    async def around(self) -> None:
        self.look()
        task, random = asyncio.current_task(), self.random
        assert task
        if random.randrange(12) == 0:
            self._cut_off[task.get_name()] = now() + random.choice([5, 12, 20])
        if now() < self._cut_off.get(task.get_name(), 0) or random.randrange(8) == 0:
            raise api_error(0, "NoAnswer", "lost")
        match random.randrange(8):
            case 0:
                await asyncio.sleep(random.choice([0.01, 1, 4, 7, 11, 20]))
            case 1:
                await unmoved(random.choice([0.5, 3, 7, 14, 16, 40]))
        self.look()

    async def replica(self, name: str, offset: float) -> None:
        for life in itertools.count():
            one = self.electors[name] = elector(self.server, f"{name}-{life}", offset, LeaseTimes(11, 10, 2))
            await one.gained()
            self.look()
            if self.random.randrange(4) == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.random.choice([1, 8, 30])):
                        await one.lost()
                await one.release()
            else:
                await one.lost()
            self.look()

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.25)

    async def fight(self, seconds: float, offset: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                group.create_task(self.replica("a", 0), name="a")
                group.create_task(self.replica("b", offset), name="b")
                group.create_task(self.watch())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e6, 1e6))
def test_never_do_two_lead_at_once(seed: int, offset: float) -> None:
    async def main() -> None:
        duel = Duel(seed)
        await duel.fight(400, offset)
        assert duel.leading, "or the test is empty"

    run(main())


async def unmoved(seconds: float) -> None:
    """As a process that is stopped for so long: what would cancel it comes too late."""
    until, cancelled = now() + seconds, False
    while now() < until:
        try:
            await asyncio.sleep(until - now())
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def test_alone_it_leads_for_ever() -> None:
    async def main() -> None:
        alone = Leadership()
        await alone.gained()
        assert alone.leads()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(alone.lost(), 1000)
        await alone.release()

    run(main())
