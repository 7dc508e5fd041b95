from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

from tests.unit.operator.fake_client import FakeClient
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Client, Kind
from spoke_jobs_operator.shell.reconciling.live_reads import RECENT, LiveReads
from spoke_jobs_operator.shell.standby.standby_pods import pool_of
from spoke_jobs_operator.shell.store.store import Store

KEY, TEMPLATE = Key(NAMESPACE, NAME), Key(NAMESPACE, "default")


class Slow(FakeClient):
    """A client whose answers come later, so that several may ask at the same time."""

    async def read(self, kind: Kind, key: Key) -> dict[str, Any] | None:
        await asyncio.sleep(0.001)
        return await super().read(kind, key)


async def test_those_that_ask_at_the_same_time_share_one_read() -> None:
    world, store = World(), Store()
    store.spokejob_seen(world.spokejob)
    client = Slow(world)
    reads = LiveReads(cast(Client, client), store, lambda: world.now)
    async with asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(reads.template_of(KEY))
    assert client.read_names == ["default"]
    assert store.templates.get(TEMPLATE)


async def test_what_a_read_changes_is_handled_again() -> None:
    """The watch brings nothing new then."""
    world, store, woken = World(), Store(), set[Key]()
    store.spokejob_seen(world.spokejob)
    reads = LiveReads(cast(Client, FakeClient(world)), store, lambda: world.now, woken.add)
    world.put_template(annotations={"jobs.spoke.dev/standby": "1-2"})
    await reads.all_of(KEY)
    assert woken == {KEY, pool_of(NAMESPACE)}
    woken.clear()
    await reads.all_of(KEY)
    assert woken == set()
    world.delete(Kind.TEMPLATE, "default")
    await reads.all_of(KEY)
    assert woken == {KEY, pool_of(NAMESPACE)}


async def test_a_read_is_good_for_some_seconds_and_is_forgotten_then() -> None:
    world, store = World(), Store()
    store.spokejob_seen(world.spokejob)
    reads = LiveReads(cast(Client, FakeClient(world)), store, lambda: world.now)
    assert not reads.has_read_template(TEMPLATE)
    await reads.all_of(KEY)
    assert reads.has_read_template(TEMPLATE)
    world.now += RECENT - timedelta(milliseconds=1)
    assert reads.has_read_template(TEMPLATE)
    world.now += timedelta(milliseconds=1)
    assert not reads.has_read_template(TEMPLATE)
    other = World(podTemplate="other").spokejob
    other["metadata"]["resourceVersion"] = "999"
    store.spokejob_seen(other)
    await reads.template_of(KEY)
    assert list(reads._read_at) == [Key(NAMESPACE, "other")]
