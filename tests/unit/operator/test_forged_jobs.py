"""Jobs that somebody else has made for SpokeJobs, and pods that never start: other namespaces' jobs start as before."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, World

from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

HOSTILE, VICTIM = "hostile", "victim"
MOST = 4
ONE_POD = {"parallelism": 1, "completions": 1, "backoffLimit": 0}


class WithoutPods(World):
    """In the hostile namespace, no Job gets a pod."""

    def job_controller(self) -> None:
        """Make the pods of the other Jobs."""
        jobs = self.objects[Kind.JOB]
        hostile = {name: job for name, job in jobs.items() if job["metadata"]["namespace"] == HOSTILE}
        for name in hostile:
            del jobs[name]
        super().job_controller()
        jobs.update(hostile)


def forge(world: World, name: str, namespace: str, **spec: Any) -> None:
    """Make a Job that looks like the first attempt's."""
    labels = {"jobs.spoke.dev/spokejob": name, "jobs.spoke.dev/attempt": "1"}
    owner = {"uid": world.objects[Kind.SPOKEJOB][name]["metadata"]["uid"], "controller": True}
    body = world._new(f"{name}-1", namespace=namespace, labels=labels)
    body["metadata"]["ownerReferences"] = [owner]
    world._store(Kind.JOB, body | {"spec": ONE_POD | spec})


def world_of(hostile: int, *, suspended: bool) -> World:
    world = WithoutPods(suspend=True)
    for namespace in (HOSTILE, VICTIM):
        world.put_template(namespace=namespace, name=f"of-{namespace}")
    for number in range(hostile):
        world.put_spokejob(
            f"hostile-{number}", HOSTILE, podTemplate=f"of-{HOSTILE}", suspend=suspended, startTimeoutSeconds=604_800
        )
    return world


def starts(s: Simulation, count: int) -> int:
    """How many of so many new jobs of the victim run after a while."""
    for number in range(count):
        s.world.put_spokejob(f"victim-{number}", VICTIM, podTemplate=f"of-{VICTIM}")
    for _ in range(count):
        s.cluster()
        s.pass_time(1)
    victims = [s.world.objects[Kind.SPOKEJOB][f"victim-{number}"] for number in range(count)]
    return sum(1 for item in victims if item.get("status", {}).get("outcome") == "Running")


@pytest.mark.parametrize("spec", [{"parallelism": 0}, {}], ids=["no pod", "as ours"])
@pytest.mark.parametrize("suspended", [True, False])
@pytest.mark.parametrize("limits", [Limits(), Limits(running=MOST)])
def test_jobs_that_others_make_take_no_place_from_another_namespace(
    spec: dict[str, Any], suspended: bool, limits: Limits
) -> None:
    world = world_of(5 * MOST, suspended=suspended)
    s = Simulation(world, max_pending=MOST, limits=limits)
    for number in range(5 * MOST):
        forge(world, f"hostile-{number}", HOSTILE, **spec)
    held = 0 if suspended else MOST
    if limits.running is None or not held:
        assert starts(s, MOST) == MOST
    s.settle()
    places = [key for key in s.pacer._taken if key.namespace == HOSTILE]
    assert len(places) <= held, "only admission gives a place"


def test_pods_that_nobody_schedules_take_only_their_namespace_s_share() -> None:
    """Such as pods with the name of a scheduler that does not exist."""
    s = Simulation(world_of(5 * MOST, suspended=False), max_pending=MOST)
    s.settle()
    assert len(s.pacer._taken) == MOST
    assert starts(s, 2 * MOST) == 2 * MOST


def test_a_job_that_starts_no_pod_is_named_and_not_recorded() -> None:
    s = Simulation(World(startTimeoutSeconds=60))
    forge(s.world, NAME, "jobs", parallelism=0)
    s.settle()
    assert (s.world.status["cause"], s.world.status.get("attempts", [])) == ("NameTaken", [])
    s.world.delete(Kind.JOB, f"{NAME}-1")
    s.pass_time(11)
    assert s.world.status["attempt"] == 1


def test_a_job_that_somebody_made_for_a_suspended_spokejob_is_recorded_once_it_may_start() -> None:
    s = Simulation(World(suspend=True))
    forge(s.world, NAME, "jobs")
    s.settle()
    assert s.world.status["cause"] == "Suspended"
    assert not s.pacer.has_place(Key("jobs", NAME))
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": False}, under="spec")
    s.settle()
    assert s.world.status["attempt"] == 1


def test_a_cancelled_spokejob_with_such_a_job_ends() -> None:
    s = Simulation(World(suspend=True), limits=Limits(running=0))
    forge(s.world, NAME, "jobs")
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    s.settle()
    assert s.world.status["cause"] == "Cancelled"
    s.pass_time(11)
    assert s.world.live_jobs() == []
