"""Many SpokeJobs whose pods can't start for a reason of their own: few pods are made, and others have their turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.test_quota import admitted, nobody_failed
from tests.unit.operator.test_room import causes, crowd, goes_on, passes, until_done
from tests.unit.operator.world import Object

from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.obstacles.start_hold import MOST
from spoke_jobs_operator.core.reporting.published_state import report
from spoke_jobs_operator.shell.api.operator_client import Kind

PATIENT = 24 * 3600


def wrong_image(s: Simulation, world: Crowd, template: str = "default") -> None:
    """Everything takes one step; pods of this template do not start, since their image does not exist."""
    world.job_controller()
    s.settle()
    world.scheduler()
    s.settle()
    for pod in world.live_pods():
        if template_of(world, pod) == template:
            waits = {"waiting": {"reason": "ImagePullBackOff", "message": "app:1: not found"}}
            world._pod_state(pod, "Pending", waits)
        elif pod["status"]["phase"] == "Pending":
            world._pod_state(pod, "Running", {"running": {"startedAt": world.now.isoformat()}})
    s.settle()


def template_of(world: Crowd, pod: Object) -> str:
    spokejob = pod["metadata"]["labels"]["jobs.spoke.dev/spokejob"]
    return str(world.objects[Kind.SPOKEJOB][spokejob]["spec"]["podTemplate"])


def with_template(world: Crowd, name: str) -> None:
    body = world.objects[Kind.TEMPLATE]["default"]
    world._store(Kind.TEMPLATE, {**body, "metadata": {**body["metadata"], "name": name, "uid": name}})


def of(world: Crowd, name: str) -> Any:
    return world.objects[Kind.SPOKEJOB][name].get("status", {})


def test_few_pods_are_made_the_others_say_why_they_wait_and_all_run_once_the_image_is_there() -> None:
    world = crowd(100, room=1000, startTimeoutSeconds=PATIENT)
    s = Simulation(world, max_pending=6)
    s.settle()
    for _ in range(60):
        wrong_image(s, world)
        passes(s, 60)
    assert MOST <= len(world.created) <= 1.5 * MOST
    s.compare()
    s.pass_time(1)
    stuck = len(world.created)
    assert Counter(causes(world).values()) == {"ImageUnavailable": stuck, "PodsNotStarting": 100 - stuck}
    held = world.spokejobs()[90]
    assert admitted(held) == "ImageUnavailable: app:1: not found"
    assert held["status"]["waiting"]["object"] == "ImageUnavailable"
    assert s.pacer.room is not None
    assert not s.pacer.room.closed_in("jobs")
    state = report("jobs", s.pacer.limits, s.pacer.usage, (), s.store.unfinished())
    (hold,) = state.to_json()["holds"]
    assert (hold["reason"], hold["obstacles"], hold["pods"]) == ("PodsNotStarting", ["ImageUnavailable"], stuck)
    until_done(world, 60, lambda: goes_on(s, 1))
    nobody_failed(world)


def test_they_leave_places_of_a_limit_to_others() -> None:
    world = crowd(30, room=1000, startTimeoutSeconds=PATIENT)
    with_template(world, "other")
    s = Simulation(world, max_pending=6, limits=Limits(running=8))
    s.settle()
    for _ in range(10):
        wrong_image(s, world)
        passes(s, 60)
    assert len(world.created) <= 8, "as many as were starting when the first was seen to be stuck"
    for job in world.live_jobs():
        name = job["metadata"]["labels"]["jobs.spoke.dev/spokejob"]
        world.change(Kind.SPOKEJOB, name, {"cancel": True}, under="spec")
    for _ in range(20):
        s.settle()
        world.garbage_collector()
        for pod in world.pods:
            if "deletionTimestamp" in pod["metadata"]:
                world.delete(Kind.POD, pod["metadata"]["name"])
        wrong_image(s, world)
        passes(s, 30)
    assert len(world.live_jobs()) <= 3, "two, and one that probes"
    for number in range(5):
        world.put_spokejob(f"other-{number}", podTemplate="other", priority=-1)
    s.settle()
    wrong_image(s, world)
    assert {of(world, f"other-{number}")["outcome"] for number in range(5)} == {"Running"}
