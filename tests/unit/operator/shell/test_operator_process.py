"""The operator as a whole, as it begins to lead and stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from tests.unit.operator.fake_client import FakeClient
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, NAMESPACE, World
from tests.waiting import eventually_async, patient

from spoke_jobs_operator import __main__
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.operator_settings import Settings
from spoke_jobs_operator.shell.api.operator_client import Client, Kind
from spoke_jobs_operator.shell.process import operator_process
from spoke_jobs_operator.shell.watching.streams import Streams


class Lead:
    """A lead that the test grants and takes away."""

    def __init__(self) -> None:
        self.granted, self.taken = asyncio.Event(), asyncio.Event()
        self.released = 0

    def leads(self) -> bool:
        return self.granted.is_set() and not self.taken.is_set()

    async def gained(self) -> None:
        await self.granted.wait()

    async def lost(self) -> None:
        await self.taken.wait()

    async def release(self) -> None:
        self.released += 1


class Scene:
    """An operator whose streams say nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world: World | None = None, **settings: Any) -> None:
        async def silent(_: Streams) -> None:
            await asyncio.Event().wait()

        async def publish(key: Key, data: Mapping[str, str]) -> None:
            pass

        self.lead, self.world = Lead(), world or World()
        monkeypatch.setattr(Streams, "run", silent)
        monkeypatch.setattr(operator_process, "ByLease", lambda *_: self.lead)
        client = FakeClient(self.world)
        vars(client).update(publish=publish)
        settings = {"namespaces": (NAMESPACE,), **settings}
        given = Settings(lease="ns/lease", health_host="127.0.0.1", health_port=0, **settings)
        self.operator = operator_process.Operator(given, cast(Client, client))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the operator, which does not lead yet, until the end of the block."""
        task = asyncio.create_task(self.operator.run())
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_what_a_leader_did_last_is_known_before_anything_is_decided(scene: Scene) -> None:
    """It had the Job made and deleted again, and nothing of that was heard: a second one must not be made."""
    async with scene.running():
        await eventually_async(lambda: scene.operator._health.ready)
        assert scene.world.writes == [], "a standby writes nothing"
        scene.world.change(Kind.SPOKEJOB, NAME, {"outcome": "Succeeded", "attempt": 1}, under="status")
        scene.lead.granted.set()
        await eventually_async(lambda: scene.operator._metrics.reconciles._value.get() > 0)
        await eventually_async(lambda: len(scene.operator._queue) == 0)
        assert scene.world.created == []
    assert scene.lead.released == 1


async def test_a_new_leader_counts_what_runs_in_all_namespaces_before_it_admits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that waits is in the namespace that is listed first."""
    world = World()
    earlier = Simulation(world, limits=Limits(running=1))
    earlier.settle()
    world.put_template(name="elsewhere", namespace="elsewhere")
    world.put_spokejob("next", namespace="elsewhere", podTemplate="elsewhere")
    scene = Scene(monkeypatch, world, namespaces=("elsewhere", NAMESPACE), max_running=1)
    async with scene.running():
        await eventually_async(lambda: scene.operator._health.ready)
        scene.lead.granted.set()
        await eventually_async(lambda: scene.operator._metrics.reconciles._value.get() > 1)
        await eventually_async(lambda: len(scene.operator._queue) == 0)
        assert [name for name, _ in world.created] == [f"{NAME}-1"]
        assert scene.operator._pacer.usage.total == 1


async def test_what_waits_and_how_long_a_look_takes_is_measured(scene: Scene) -> None:
    def sample(name: str) -> float | None:
        return scene.operator._metrics.registry.get_sample_value(f"spoke_operator_{name}")

    for name in ("a", "b"):
        scene.operator._queue.add(Key(NAMESPACE, name))
    assert (sample("queue_depth"), sample("reconcile_seconds_count")) == (2, 0)
    async with scene.running():
        scene.lead.granted.set()
        await eventually_async(lambda: scene.world.created and len(scene.operator._queue) == 0)
        assert sample("queue_depth") == 0
        assert sample("reconcile_seconds_count") == sample("reconciles_total")
        assert (sample("reconcile_seconds_count") or 0) >= 3


async def test_what_fails_is_told_with_the_job_s_id(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Key) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(scene.operator._controller, "process", fail)
    async with scene.running():
        scene.lead.granted.set()
        await eventually_async(lambda: any(item.levelno == logging.ERROR for item in caplog.records))
        fields = vars(next(item for item in caplog.records if item.levelno == logging.ERROR))
        assert (fields["request_id"], fields["job_type"]) == (7, "import contacts")
        assert fields["spokejob"] == f"{NAMESPACE}/{NAME}"


async def test_it_ends_when_the_lead_is_lost(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(scene.operator.run())
    scene.lead.granted.set()
    await eventually_async(lambda: scene.world.created)
    scene.lead.taken.set()
    async with asyncio.timeout(patient(30)):
        with pytest.raises(operator_process.LostLeadership):
            await task
    assert [item for item in caplog.records if item.levelno >= logging.ERROR] == []


async def test_the_process_says_so_by_its_exit_code_and_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def lost(_: Settings) -> None:
        raise operator_process.LostLeadership

    monkeypatch.setattr(operator_process, "run", lost)
    assert await __main__._run_until_signal(Settings()) == 1
    assert caplog.records == []


async def test_a_leader_looks_at_the_pools_with_each_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, standby_pods=True)
    async with scene.running():
        await eventually_async(lambda: scene.operator._health.ready)
        scene.lead.granted.set()
        await eventually_async(lambda: scene.world.created != [])
        scene.world.put_template(annotations={"jobs.spoke.dev/standby": "1-2"})
        scene.operator._store.template_seen(scene.world.objects[Kind.TEMPLATE]["default"])
        await scene.operator._compare.try_once(everything=False)
        await eventually_async(lambda: any("-standby-" in name for name, _ in scene.world.created))
