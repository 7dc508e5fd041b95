"""What the page on outages promises (docs/operating.md) of a namespace with many jobs: what holds the others back.

`test_outages.py` has the rows for single jobs. Time is compressed here, too.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_outages import LEASE, REGISTRY, START_TIMEOUT, TIMES, UNREACHABLE, WEBHOOK, until
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.test_quota import admitted
from tests.unit.operator.test_room import causes, crowd, is_done, passes

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.obstacles.start_hold import MOST

JOBS = 60
RUNNING = 20
"""How many of them run at once."""


def many(running: int | None = None) -> tuple[Simulation, Crowd]:
    world = crowd(JOBS, room=1000, startTimeoutSeconds=START_TIMEOUT)
    return Simulation(world, limits=Limits(running=running), max_pending=20), world


def all_succeed_uncharged(s: Simulation, world: Crowd) -> list[int]:
    """Soon after the return of what was away. Return how many pods ran, step by step."""
    back = world.now
    ran: list[int] = []
    for _ in range(200):
        s.cluster()
        ran.append(sum(pod["status"]["phase"] == "Running" for pod in world.live_pods()))
        s.pass_time(3)
        s.cluster(ExitCode.DONE)
        if all(map(is_done, world.spokejobs())):
            break
    statuses = [item["status"] for item in world.spokejobs()]
    assert Counter(status["outcome"] for status in statuses) == {"Succeeded": JOBS}
    assert not any(status.get("charged") for status in statuses)
    assert world.now - back < timedelta(seconds=500)
    return ran


def ends(world: Crowd) -> Counter[str]:
    attempts = [attempt for item in world.spokejobs() for attempt in item["status"].get("attempts", ())]
    return Counter(attempt["cause"] for attempt in attempts if attempt.get("finishedAt"))


@TIMES
def test_database(seconds: int) -> None:
    """Jobs that ran stop when their leases lapse. Pods that start wait for it, until their start timeout."""
    s, world = many(running=RUNNING)
    s.settle()
    s.cluster()
    s.cluster()
    assert len(world.created) == RUNNING
    away = world.now
    while (passed := (world.now - away).total_seconds()) < seconds:
        # Those that ran when it went away have a lease. No other pod has run for as long as one when theirs lapse.
        patience = LEASE if passed <= LEASE + 5 else START_TIMEOUT
        world.kubelet(ExitCode.FAILED, message=UNREACHABLE, ran=timedelta(seconds=patience))
        s.settle()
        s.cluster()
        s.pass_time(5)
    lapsed = seconds > LEASE
    assert ends(world) == ({"DatabaseUnreachable": ends(world).total()} if lapsed else {})
    assert (ends(world).total() >= RUNNING) == lapsed
    assert len(world.created) <= RUNNING + 6 + seconds / 60, "one attempt a minute probes"
    s.compare()
    s.settle()
    waiting = Counter(causes(world).values())["DatabaseAway"]
    assert (waiting >= JOBS - RUNNING) == lapsed, causes(world)
    probing = len(world.live_pods())
    ran = all_succeed_uncharged(s, world)
    if lapsed:
        assert ran[0] <= probing + 1
        assert ran[1] <= 2 * probing + 2, "each attempt that reaches it lets two more start"
    assert set(ends(world)) <= {"DatabaseUnreachable", ""}


@TIMES
def test_registry(seconds: int) -> None:
    """No image is on the nodes."""
    s, world = many()
    s.settle()

    def step(seconds: float) -> None:
        passes(s, seconds)
        world.container_waits("ImagePullBackOff", REGISTRY)
        s.settle()

    step(5)  # the kubelet says soon why a pod does not start
    until(s, seconds, lambda: step(max(10, seconds / 60)))
    s.compare()
    s.settle()
    said = Counter(causes(world).values())
    tried = said.pop("RegistryAway") + said.pop("", 0)  # a pod that has just been created says nothing yet
    assert tried == len(world.created) <= 1.5 * MOST
    assert said == {"PodsNotStarting": JOBS - tried}
    all_succeed_uncharged(s, world)
    assert {item["status"]["attempt"] for item in world.spokejobs()} == {1}


@TIMES
def test_webhook(seconds: int) -> None:
    s, world = many()
    world.refuse_jobs = WEBHOOK
    s.settle()
    until(s, seconds, lambda: passes(s, 10))
    assert world.jobs_refused <= RUNNING + 6 + seconds / 60, "one attempt a minute probes"
    assert Counter(causes(world).values()) == {"WebhookAway": JOBS}
    assert admitted(world.spokejobs()[-1]) == WEBHOOK[1]
    world.refuse_jobs = None
    all_succeed_uncharged(s, world)
    assert {item["status"]["attempt"] for item in world.spokejobs()} == {1}
