"""The operator's real store, controller and comparison, run step by step against the model of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, cast

from tests.unit.operator.fake_client import Crash, FakeClient
from tests.unit.operator.fake_standby import FakeStandby
from tests.unit.operator.world import World

from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.limits.limits import Limits, RateBound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.core.reconciling.cleanup import Retention
from spoke_jobs_operator.core.reporting.job_events import JobEvent
from spoke_jobs_operator.core.reporting.job_spans import JobSpan
from spoke_jobs_operator.shell.admission.limit_keeper import LimitKeeper
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.reconciling.controller import Controller
from spoke_jobs_operator.shell.reconciling.status_throttle import StatusThrottle
from spoke_jobs_operator.shell.reconciling.workqueue import WorkQueue
from spoke_jobs_operator.shell.standby.assignments import Assignments
from spoke_jobs_operator.shell.standby.standby_pods import StandbyPods
from spoke_jobs_operator.shell.standby.standby_pools import StandbyPools
from spoke_jobs_operator.shell.store.store import Store
from spoke_jobs_operator.shell.watching.compare import Compare
from spoke_jobs_operator.shell.watching.limit_sources import LimitSources

RETENTION = Retention(job=timedelta(seconds=60), failed_job=timedelta(seconds=90), failed_jobs=2)
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


class Starts:
    """The attempts that each rate has let start, of all processes. A rate that is changed begins a new count."""

    def __init__(self) -> None:
        self.of: dict[tuple[Key, str], list[datetime]] = {}
        self.bounds: dict[Key, RateBound] = {}

    def limits_are(self, limits: Limits) -> None:
        for rules in limits.namespaces.values():
            for bound in (bound for bounds in rules.rates.values() for bound in bounds):
                if self.bounds.get(bound.limit) != bound:
                    self.bounds[bound.limit] = bound
                    self.of = {key: times for key, times in self.of.items() if key[0] != bound.limit}

    def started(self, candidate: Candidate, limits: Limits, now: datetime) -> None:
        for name, bounds in candidate.rates(limits.of(candidate.key.namespace)):
            for bound in bounds:
                self.of.setdefault((bound.limit, name), []).append(now)

    def too_many(self) -> list[tuple[Key, str]]:
        """Those that exceed their rate in some window."""
        return [key for key, times in self.of.items() if exceeds(self.bounds[key[0]].rate, times)]


def exceeds(rate: StartRate, times: list[datetime]) -> bool:
    """Whether more start in some window than the burst and the tokens that come in it."""
    return any(
        later - first + 1 > rate.burst + (times[later] - times[first]) / timedelta(microseconds=rate.interval)
        for first in range(len(times))
        for later in range(first, len(times))
    )


class RecordingPacer(Pacer):
    """Remembers who had a place when the limits were replaced last, and may keep it; and who starts when."""

    def __init__(self, limits: Limits, wake: Callable[[Key], None], starts: Starts, **options: Any) -> None:
        super().__init__(limits, self._starts, **options)
        self.starts = starts
        self.kept: set[Key] = set()
        self._then = wake

    def _starts(self, key: Key) -> None:
        if key in self._taken:
            self.starts.started(self._taken[key], self.limits, self._clock())
        self._then(key)

    def set_limits(self, limits: Limits) -> None:
        self.kept = set(self._taken)
        self.starts.limits_are(limits)
        super().set_limits(limits)

    def prime(self, running: Iterable[Candidate], *rest: Any) -> None:
        running = list(running)
        self.kept |= {item.key for item in running}
        super().prime(running, *rest)


class Simulation:
    """One operator in one world."""

    def __init__(
        self,
        world: World,
        *,
        limits: Limits | None = None,
        news: tuple[float, ...] = (),
        max_pending: int | None = None,
        standby: FakeStandby | None = None,
    ) -> None:
        self.world = world
        self.standby = standby or FakeStandby(world, keeps=False)
        """The processes of the standby pods."""
        self._max_pending = max_pending
        self._news = news
        self.client = FakeClient(world)
        self._limits = limits or Limits()
        self.starts = Starts()
        self.events: list[tuple[str, JobEvent]] = []
        """The Events of all processes so far, each with its SpokeJob."""
        self.spans: list[JobSpan] = []
        """The spans of all processes so far."""
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered. It lists what decisions rest on; its streams begin with the rest."""
        self.client.faults.clear()
        self.store = Store()
        self.queue = StepQueue(self.world)
        metrics = self.metrics = OperatorMetrics()
        client = cast(Client, self.client)
        news = StatusThrottle(*self._news, clock=lambda: self.world.now.timestamp())
        self.controller = Controller(
            client,
            self.store,
            metrics,
            RETENTION,
            news,
            clock=lambda: self.world.now,
            record=lambda about, events: self.events.extend((about.key.name, event) for event in events),
            record_spans=lambda _, spans: self.spans.extend(spans),
        )
        queue = cast("WorkQueue[Key]", self.queue)
        most = self._max_pending
        self._timers: list[tuple[datetime, Callable[[], None]]] = []
        self.pacer = RecordingPacer(
            self._limits,
            self.queue.add,
            self.starts,
            holds=None if most is None else lambda: Holds(most, self.world.now),
            clock=lambda: self.world.now,
            later=self._later,
        )
        pools = self._keep_standby_pods(queue, self.standby)
        self.keeper = LimitKeeper(
            self._limits,
            self.store,
            self.pacer,
            wake=self.queue.add,
            clock=lambda: self.world.now,
            later=self._later,
        )
        self.store.on_limits = self.keeper.changed
        self._compare = Compare(
            client,
            self.store,
            metrics,
            [],
            add=self.queue.add,
            read_live_next=self.controller.read_live_next,
            done=lambda _namespace: self._add_pools(pools),
            limits=LimitSources(client, self.store, []).compare,
        )
        self.world.news[:] = self.world.listed()  # which are newer than all events before
        run(self._compare.first())
        self.keeper.apply()
        self.controller.prime()
        self._add_pools(pools)

    def _add_pools(self, pools: StandbyPools) -> None:
        for pool in pools.pools():
            self.queue.add(pool)

    def _keep_standby_pods(self, queue: WorkQueue[Key], standby: FakeStandby) -> StandbyPools:
        client, store, metrics = cast(Client, self.client), self.store, self.metrics
        standby.client = self.client
        pods = StandbyPods(store, standby.key, 7200, keeps=standby.keeps)
        pods.on_change = self.queue.add
        assignments = Assignments(client, store, metrics, pods, standby, lambda: self.world.now)
        pools = StandbyPools(
            client,
            store,
            metrics,
            pods,
            standby,
            max_age=timedelta(hours=1),
            clock=lambda: self.world.now,
            record=lambda about, events: self.events.extend((about.key.name, event) for event in events),
            later=self.queue.add_after,
            free=self.pacer.set_free_standby,
        )
        self.controller.attach(queue, self.pacer, assignments, pools)
        self.published = pods.problems
        self.pools = pods.counts
        self.standby_pods = pods
        return pools

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if seconds < SHORTEST_DELAY:
            call()
        else:
            self._timers.append((self.world.now + timedelta(seconds=seconds), call))

    def _ripen(self) -> None:
        self.queue.ripen()
        due = [call for at, call in self._timers if at <= self.world.now]
        self._timers = [(at, call) for at, call in self._timers if at > self.world.now]
        for call in due:
            call()

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
        self._ripen()
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
        if self.pacer.usage.holds is not None:
            self.pacer.usage.holds.now = self.world.now  # the process does so every second
        for _ in range(rounds):
            while self.world.news:
                self.deliver()
            self._ripen()
            if not self.queue.ready:
                self.pacer.tick(self.world.now)
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
        self.world.scheduler()
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
