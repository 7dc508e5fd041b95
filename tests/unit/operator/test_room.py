"""Many SpokeJobs on nodes that have room for few: all run, in order, none is charged, and few pods wait for a node."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.world import NAMESPACE, Object

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

START_TIMEOUT = 60
FITS_NO_NODE = (
    "0/2 nodes are available: 2 Insufficient memory. preemption: 0/2 nodes are available: "
    "2 Preemption is not helpful for scheduling."
)


def crowd(count: int, room: int, **spec: Any) -> Crowd:
    world = Crowd()
    world.room = room
    usual = {"startTimeoutSeconds": START_TIMEOUT, "retry": {"backoffSeconds": 1, "jitter": 0}}
    for number in range(count):
        world.put_spokejob(f"job-{number:04}", **usual | spec)
    return world


def passes(s: Simulation, seconds: float) -> None:
    """Time passes, in which the cluster has done its work."""
    s.world.now += timedelta(seconds=seconds)
    s.world.job_controller()
    s.world.scheduler()
    s.settle()


def causes(world: Crowd) -> dict[str, str]:
    return {item["metadata"]["name"]: item.get("status", {}).get("cause", "") for item in world.spokejobs()}


def key_of(item: Object) -> Key:
    return Key(NAMESPACE, item["metadata"]["name"])


def is_done(item: Object) -> bool:
    return item.get("status", {}).get("outcome") == "Succeeded"


def until_done(world: Crowd, rounds: int, step: Callable[[], None]) -> None:
    """Repeat a step until all have succeeded."""
    for _ in range(rounds):
        step()
        if all(map(is_done, world.spokejobs())):
            break


def goes_on(s: Simulation, seconds: float) -> None:
    """Pods start and end, and time passes."""
    s.cluster()
    passes(s, seconds)
    s.cluster(0)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 60),
    room=st.integers(1, 12),
    most=st.integers(1, 8),
    slow=st.sampled_from([None, 1, 3]),
    step=st.sampled_from([1, 20, 45, 200]),
    restarts=st.booleans(),
)
def test_a_burst_beyond_the_room_fails_nobody(
    count: int, room: int, most: int, slow: int | None, step: int, restarts: bool
) -> None:
    world = crowd(count, room)
    world.starts_in_kubelet = slow
    if slow:  # what a node takes longer for than the start timeout is no wait for room
        step = min(step, START_TIMEOUT // room)
    s = Simulation(world, max_pending=most)
    s.settle()
    for round_ in range(10 * count + 20):
        assert world.without_node() <= most
        s.cluster()
        passes(s, step)
        s.cluster(0)
        if restarts and round_ % 7 == 3:
            s.restart()
            s.settle()
        if all(map(is_done, world.spokejobs())):
            break
    assert all(map(is_done, world.spokejobs())), causes(world)
    assert [item["status"].get("charged", {}) for item in world.spokejobs()] == [{}] * count
    assert all(item["status"]["attempt"] == 1 for item in world.spokejobs())
    assert s.pacer.room is not None
    assert s.pacer.room.pending == 0
    assert not s.pacer.room.closed_in(NAMESPACE)


def test_who_waits_for_room_says_so_and_is_written_once() -> None:
    world = crowd(40, room=2)
    s = Simulation(world, max_pending=4)
    s.settle()
    for _ in range(20):
        s.cluster()
        s.pass_time(30)
        s.compare()
        s.settle()
    waiting = [item for item in world.spokejobs() if item["status"].get("cause") == "ClusterFull"]
    assert len(waiting) == 38
    held = next(item for item in waiting if not item["status"].get("attempts"))
    admitted = next(item for item in held["status"]["conditions"] if item["type"] == "Admitted")
    assert admitted["message"] == "no node has room: memory, pods is short"
    assert {item["status"]["waiting"]["object"] for item in waiting} == {"memory, pods"}, "with a pod and without"
    before = len(world.writes)
    s.pass_time(600)
    s.compare()
    s.settle()
    assert len(world.writes) == before, "nothing has changed"


def test_an_attempt_that_waited_for_room_costs_five_writes() -> None:
    world = crowd(40, room=2)
    s = Simulation(world, max_pending=4)
    s.settle()
    for _ in range(200):
        s.cluster()
        s.pass_time(30)
        s.cluster(0)
        s.compare()
        s.settle()
        if all(map(is_done, world.spokejobs())):
            break
    s.pass_time(120)
    s.cluster()
    assert all(map(is_done, world.spokejobs()))
    assert len(world.writes) <= 5 * 40


def test_a_pod_that_fits_no_node_is_named_ends_and_holds_nobody_up() -> None:
    world = crowd(12, room=100)
    s = Simulation(world, max_pending=3)
    s.settle()
    for _ in range(12):
        world.job_controller()
        for pod in world.live_pods():
            if not pod["status"].get("conditions"):
                never = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FITS_NO_NODE}
                world.change(Kind.POD, pod["metadata"]["name"], {"conditions": [never]}, under="status")
        s.settle()
    assert len(world.jobs) == 12, "they do not wait for room"
    assert set(causes(world).values()) == {"Unschedulable"}
    s.pass_time(START_TIMEOUT + 1)
    for _ in range(3):
        world.garbage_collector()
        world.kubelet()
        s.pass_time(5)
    assert set(causes(world).values()) == {"StartTimeout"}
    finished = next(item for item in world.spokejobs()[0]["status"]["conditions"] if item["type"] == "Finished")
    assert FITS_NO_NODE in finished["message"]
    assert finished["message"].endswith("Add a node, or request less; then `spoke-jobs retry 7`.")


def test_a_full_template_holds_no_other_template_up() -> None:
    world = crowd(20, room=1)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    assert world.without_node() == 3
    body = world.objects[Kind.TEMPLATE]["default"]
    other = {**body, "metadata": {**body["metadata"], "name": "other", "uid": "other"}}
    world._store(Kind.TEMPLATE, other)
    world.put_spokejob("elsewhere", podTemplate="other", priority=-1)
    s.settle()
    assert s.pacer.has_place(Key(NAMESPACE, "elsewhere"))


def test_time_without_room_counts_against_no_start_timeout_but_a_day_does() -> None:
    world = crowd(1, room=0)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    s.pass_time(23 * 3600)
    s.cluster()
    assert causes(world) == {"job-0000": "ClusterFull"}
    s.pass_time(3601)
    for _ in range(3):
        s.cluster()
        s.pass_time(5)
    assert causes(world) == {"job-0000": "StartTimeout"}


def test_the_start_timeout_counts_from_the_node() -> None:
    world = crowd(1, room=0)
    world.starts_in_kubelet = 0
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    s.pass_time(3600)
    world.room = 1
    s.cluster()
    s.pass_time(START_TIMEOUT - 5)
    assert causes(world)["job-0000"] in ("", "ClusterFull")
    s.pass_time(10)
    for _ in range(3):
        s.cluster()
        s.pass_time(5)
    assert causes(world) == {"job-0000": "StartTimeout"}


@pytest.mark.parametrize("seconds", [10, 31])
def test_pods_that_hang_on_their_node_do_not_hold_others_up_for_ever(seconds: float) -> None:
    world = crowd(40, room=100)
    world.starts_in_kubelet = 0
    s = Simulation(world, max_pending=2)
    s.settle()
    for _ in range(20):
        s.cluster()
    started = len(world.jobs)
    assert started == 10, "so many start at a time on one node"
    s.pass_time(seconds)
    assert (len(world.jobs) > started) == (seconds > 30)


def test_a_pod_that_waited_for_room_and_then_fits_no_node_has_its_whole_start_timeout() -> None:
    world = crowd(1, room=0)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    s.pass_time(3600)
    never = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FITS_NO_NODE}
    world.change(Kind.POD, world.pods[0]["metadata"]["name"], {"conditions": [never]}, under="status")
    s.settle()
    s.pass_time(START_TIMEOUT - 5)
    assert causes(world) == {"job-0000": "Unschedulable"}
    s.pass_time(10)
    for _ in range(3):
        world.garbage_collector()
        world.kubelet()
        s.pass_time(5)
    assert causes(world) == {"job-0000": "StartTimeout"}


def test_so_has_one_that_was_held_for_room_and_is_recorded_only_when_its_pod_runs() -> None:
    world = crowd(3, room=1)
    s = Simulation(world, max_pending=1)
    s.settle()
    s.cluster()
    s.cluster()
    s.compare()
    s.settle()
    later = next(item["metadata"]["name"] for item in world.spokejobs() if not s.pacer.has_place(key_of(item)))
    assert causes(world)[later] == "ClusterFull"
    while not s.pacer.has_place(Key(NAMESPACE, later)):
        s.cluster(0)
    world.room = 0
    s.cluster()
    s.cluster(0)
    s.pass_time(3600)
    assert not world.objects[Kind.SPOKEJOB][later]["status"]["attempts"]
    never = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FITS_NO_NODE}
    for pod in world.live_pods():
        world.change(Kind.POD, pod["metadata"]["name"], {"conditions": [never]}, under="status")
    s.settle()
    assert causes(world)[later] == "Unschedulable"
    s.pass_time(START_TIMEOUT - 5)
    assert causes(world)[later] == "Unschedulable"
    s.pass_time(10)
    for _ in range(3):
        world.garbage_collector()
        world.kubelet()
        s.pass_time(5)
    assert causes(world)[later] == "StartTimeout"
