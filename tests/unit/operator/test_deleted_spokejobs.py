"""A SpokeJob that somebody deletes while its pod runs leaves nothing that runs outside the limits."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

import pytest
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, NAMESPACE, Object, World

from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

NEXT = "next"


@pytest.fixture
def s() -> Simulation:
    """One SpokeJob runs, another waits for its place."""
    simulation = Simulation(World(), limits=Limits(running=1))
    simulation.settle()
    simulation.cluster()
    simulation.world.put_spokejob(NEXT)
    simulation.settle()
    assert [name for name, _ in simulation.world.created] == [f"{NAME}-1"]
    return simulation


def lose_owner(world: World) -> None:
    """What the garbage collector does for `--cascade=orphan`."""
    job: Object = deepcopy(world.objects[Kind.JOB][f"{NAME}-1"])
    job["metadata"]["ownerReferences"] = []
    world._store(Kind.JOB, job)


def ends(s: Simulation) -> None:
    """The deleted Job's pod ends within its grace period, and the next one starts."""
    for _ in range(4):
        s.cluster()
        s.pass_time(1)
    s.pass_time(11)
    assert f"{NAME}-1" not in s.world.objects[Kind.JOB]
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NEXT}-1"]


@pytest.mark.parametrize("orphaned", [False, True])
def test_while_a_finalizer_keeps_it_its_pod_is_ended_and_counts_until_then(s: Simulation, orphaned: bool) -> None:
    s.world.delete(Kind.SPOKEJOB, NAME, foreground=True)  # from here on it only has the time of its deletion
    if orphaned:
        lose_owner(s.world)
    s.settle()
    assert "deletionTimestamp" in s.world.objects[Kind.JOB][f"{NAME}-1"]["metadata"]
    assert s.pacer.has_place(Key(NAMESPACE, NAME))
    assert len(s.world.created) == 1
    ends(s)
    assert not s.pacer.has_place(Key(NAMESPACE, NAME))


def test_a_job_that_it_leaves_without_an_owner_is_deleted(s: Simulation) -> None:
    lose_owner(s.world)
    s.world.delete(Kind.SPOKEJOB, NAME)
    s.settle()
    assert "deletionTimestamp" in s.world.objects[Kind.JOB][f"{NAME}-1"]["metadata"]
    ends(s)


def test_a_job_that_loses_its_owner_later_is_deleted_by_the_operator_of_that_time(s: Simulation) -> None:
    s.world.delete(Kind.SPOKEJOB, NAME)
    s.settle()
    assert "deletionTimestamp" not in s.world.objects[Kind.JOB][f"{NAME}-1"]["metadata"], "left to the collector"
    lose_owner(s.world)
    s.restart()
    s.settle()
    assert "deletionTimestamp" in s.world.objects[Kind.JOB][f"{NAME}-1"]["metadata"]


def test_somebody_s_copy_of_a_job_is_left_alone(s: Simulation) -> None:
    copy = deepcopy(s.world.objects[Kind.JOB][f"{NAME}-1"])
    copy["metadata"] |= {"name": "copy", "uid": "copy", "ownerReferences": []}
    s.world._store(Kind.JOB, copy)
    s.world.delete(Kind.SPOKEJOB, NAME)
    s.settle()
    assert "deletionTimestamp" not in s.world.objects[Kind.JOB]["copy"]["metadata"]


def create_again(s: Simulation, name: str, **spec: object) -> None:
    """Delete a SpokeJob and its Job, and create another one of the same name, before the operator looks."""
    s.world.delete(Kind.SPOKEJOB, name)
    s.world.delete(Kind.JOB, f"{name}-1")
    s.world.put_spokejob(name, **spec)
    s.settle()


LOCKED = {"queue": "exports", "locksQueue": True}


def test_one_that_is_created_again_does_not_have_the_place_of_its_predecessor() -> None:
    s = Simulation(World(**LOCKED))
    s.world.put_spokejob(NEXT)
    s.settle()
    assert s.pacer.has_place(Key(NAMESPACE, NEXT))
    create_again(s, NEXT, **LOCKED)
    assert s.world.objects[Kind.SPOKEJOB][NEXT]["status"]["cause"] == "QueueLocked"
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NEXT}-1"], "only the predecessor's"
    assert s.pacer.usage.total == 1


def test_one_that_is_created_again_does_not_wait_for_what_its_predecessor_waited_for() -> None:
    s = Simulation(World(**LOCKED))
    s.world.put_spokejob(NEXT, **LOCKED)
    s.settle()
    assert s.world.objects[Kind.SPOKEJOB][NEXT]["status"]["cause"] == "QueueLocked"
    create_again(s, NEXT)
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NEXT}-1"]


def test_one_that_is_created_again_counts_from_its_own_creation() -> None:
    """Only the oldest unfinished one may start; the one that is created again is now the youngest."""
    s = Simulation(World(), limits=Limits(unfinished=1))
    s.settle()
    s.world.now += timedelta(seconds=1)
    s.world.put_spokejob(NEXT)
    s.settle()
    s.world.now += timedelta(seconds=1)
    create_again(s, NAME)
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NEXT}-1"]
    assert s.world.status["cause"] == "UnfinishedLimitReached"


def test_a_namespace_that_begins_later_gives_no_place_to_the_successor_of_one_that_had_it() -> None:
    s = Simulation(World(**LOCKED))
    s.world.put_spokejob(NEXT)
    s.settle()
    s.world.delete(Kind.SPOKEJOB, NEXT)
    s.world.delete(Kind.JOB, f"{NEXT}-1")
    s.world.put_spokejob(NEXT, **LOCKED)
    while s.world.news:
        s.deliver()
    s.controller.prime(begun="other")
    assert not s.pacer.has_place(Key(NAMESPACE, NEXT))
