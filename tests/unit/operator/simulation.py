"""The operator's real store, controller and comparison, run step by step against the model of the cluster."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, cast

from tests.unit.operator.world import Crash, FakeClient, World

from spoke_jobs.contract.api_errors import ApiError
from spoke_jobs_operator.core.admit import Limits
from spoke_jobs_operator.core.api_objects import Key
from spoke_jobs_operator.core.cleanup import Retention
from spoke_jobs_operator.shell.compare import Compare
from spoke_jobs_operator.shell.controller import Controller
from spoke_jobs_operator.shell.operator_client import Client
from spoke_jobs_operator.shell.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.pacing import Pacer
from spoke_jobs_operator.shell.status_throttle import StatusThrottle
from spoke_jobs_operator.shell.store import Store
from spoke_jobs_operator.shell.workqueue import WorkQueue

RETENTION = Retention(job=timedelta(seconds=60))
ERROR_DELAY = 1.0
SHORTEST_DELAY = 0.1
"""All that happens in the model, happens at whole and half seconds: who asks for less, asks for a moment gone by."""


class StepQueue:
    """The work queue's interface, on the model's clock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ready: list[Key] = []
        self.timers: dict[Key, datetime] = {}

    def add(self, key: Key) -> None:
        self.timers.pop(key, None)
        if key not in self.ready:
            self.ready.append(key)

    def add_after(self, key: Key, delay: float) -> None:
        assert delay >= SHORTEST_DELAY, f"to look again after {delay} s, at what hasn't changed, is a hot loop"
        due = self._world.now + timedelta(seconds=delay)
        if key not in self.ready and (key not in self.timers or due < self.timers[key]):
            self.timers[key] = due

    def forget(self, key: Key) -> None:
        self.timers.pop(key, None)

    def ripen(self) -> None:
        for key, due in list(self.timers.items()):
            if due <= self._world.now:
                self.add(key)


class Simulation:
    """One operator in one world."""

    def __init__(self, world: World, *, limits: Limits | None = None, news: tuple[float, ...] = ()) -> None:
        self.world = world
        self._news = news
        self.client = FakeClient(world)
        self._limits = limits or Limits()
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered. It lists what decisions rest on; its streams begin with the rest."""
        self.client.faults.clear()
        self.store = Store()
        self.queue = StepQueue(self.world)
        metrics = self.metrics = OperatorMetrics()
        client = cast(Client, self.client)
        news = StatusThrottle(*self._news, clock=lambda: self.world.now.timestamp())
        self.controller = Controller(client, self.store, metrics, RETENTION, news, clock=lambda: self.world.now)
        queue = cast("WorkQueue[Key]", self.queue)
        self.pacer = Pacer(self._limits, self.queue.add)
        self.controller.attach(queue, self.pacer)
        self._compare = Compare(
            client,
            self.store,
            metrics,
            [],
            add=self.queue.add,
            read_live_next=self.controller.read_live_next,
            done=lambda: None,
        )
        self.world.news[:] = self.world.listed()  # which are newer than all events before
        run(self._compare.first())
        self.controller.prime()

    def compare(self, *, everything: bool = False) -> None:
        run(self._compare.try_once(everything=everything))

    def deliver(self, index: int = 0) -> None:
        """The stream brings an event: the first one of the chosen event's object, as streams keep that order."""
        news = self.world.news
        if not news:
            return
        plural, body, _ = news[index % len(news)]
        uid = body["metadata"]["uid"]
        first = next(i for i, item in enumerate(news) if item[0] == plural and item[1]["metadata"]["uid"] == uid)
        plural, body, gone = news.pop(first)
        for key in self.store.see(plural, body, gone=gone):
            self.queue.add(key)

    def work(self) -> None:
        """Let a worker handle one key."""
        self.queue.ripen()
        if not self.queue.ready:
            return
        key = self.queue.ready.pop(0)
        try:
            run(self.controller.process(key))
        except ApiError:
            self.queue.add_after(key, ERROR_DELAY)
        except Crash:
            self.restart()

    def settle(self, rounds: int = 1000) -> None:
        """Deliver and work until nothing is left to do at this moment."""
        for _ in range(rounds):
            while self.world.news:
                self.deliver()
            self.queue.ripen()
            if not self.queue.ready:
                return
            self.work()
        raise AssertionError(f"no rest after {rounds} rounds: the operator goes in circles")

    def pass_time(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)
        self.settle()

    def cluster(self, exit_code: int | None = None, *, message: str = "") -> None:
        """Let everything in the cluster take one step, and the operator see it."""
        self.world.job_controller()
        self.settle()
        self.world.kubelet(exit_code, message=message)
        self.settle()
        self.world.job_controller()
        self.world.garbage_collector()
        self.settle()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the coroutine waits for something outside of the model")


def start(**spec: Any) -> Simulation:
    """An operator that has seen a SpokeJob with that in its spec, and rests."""
    simulation = Simulation(World(**spec))
    simulation.settle()
    return simulation


def conditions(simulation: Simulation) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition of the SpokeJob."""
    return {item["type"]: (item["status"], item["reason"]) for item in simulation.world.status["conditions"]}
