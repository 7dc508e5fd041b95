"""Many SpokeJobs under a ResourceQuota that allows few: all run, none is charged, and no start timeout counts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.test_room import START_TIMEOUT, causes, crowd, is_done, passes, until_done
from tests.unit.operator.world import Object

from spoke_jobs_operator.shell.api.operator_client import Kind

NEVER = 'Error creating: pods "x" is forbidden: exceeded quota: few, requested: cpu=8, used: cpu=0, limited: cpu=4'


def under_quota(count: int, pods: int | None = None, jobs: int | None = None, **spec: Any) -> Crowd:
    world = crowd(count, room=1000, **spec)
    world.quota, world.job_quota = pods, jobs
    return world


def turn(s: Simulation, seconds: float = 5) -> None:
    """Everything takes one step, pods that run end, and time passes."""
    s.cluster()
    s.cluster(0)
    passes(s, seconds)


def nobody_failed(world: Crowd) -> None:
    assert all(map(is_done, world.spokejobs())), causes(world)
    assert all(not item["status"].get("charged") for item in world.spokejobs())
    assert all(item["status"]["attempt"] == 1 for item in world.spokejobs())


def refused(world: Crowd) -> list[Object]:
    """The Jobs that have no pod."""
    return [job for job in world.live_jobs() if not job.get("status", {}).get("started")]


def admitted(item: Object) -> str:
    """What the condition of a held SpokeJob says."""
    return str(next(one["message"] for one in item["status"]["conditions"] if one["type"] == "Admitted"))


@pytest.mark.parametrize("kind", ["quota", "job_quota"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_quota_at_zero_for_hours_fails_nobody_and_what_waits_says_so(kind: str, restart: bool) -> None:
    world = under_quota(30, **{"pods" if kind == "quota" else "jobs": 0})
    world.keeps_events = False
    s = Simulation(world, max_pending=6)
    s.settle()
    for _ in range(60):
        turn(s, 120)
    if restart:
        s.restart()
    else:
        s.compare()
    s.settle()
    assert set(causes(world).values()) == {"QuotaExceeded"}
    assert len(world.created) <= 10, "few have a Job"
    held = next(item for item in world.spokejobs() if not item["status"].get("attempts"))
    resource, who = ("pods", "pod") if kind == "quota" else ("count/jobs.batch", "Job")
    name = "few" if kind == "quota" else "few-jobs"
    assert admitted(held) == f"quota {name}: the quota of {resource} is 0, and the {who} requests 1"
    waiting = held["status"]["waiting"]
    assert (waiting["object"], waiting["quota"]) == (
        name, [{"resource": resource, "requested": "1", "used": "0", "hard": "0"}])  # fmt: skip
    setattr(world, kind, 5)
    until_done(world, 200, lambda: turn(s))
    nobody_failed(world)


def test_the_hold_costs_few_writes_and_none_while_nothing_changes() -> None:
    world = under_quota(40, pods=2)
    s = Simulation(world, max_pending=4)
    s.settle()
    for _ in range(30):
        s.cluster()
        s.pass_time(60)
        s.compare()
        s.settle()
    assert len(refused(world)) <= 10
    before = len(world.writes)
    s.pass_time(1)
    s.compare()
    s.settle()
    assert len(world.writes) == before
    until_done(world, 400, lambda: turn(s))
    s.pass_time(120)
    s.cluster()
    nobody_failed(world)
    assert len(world.writes) <= 5 * 40


@pytest.mark.parametrize("restart", [False, True])
def test_an_attempt_that_was_held_and_then_refused_waits_as_before_though_its_event_is_gone(restart: bool) -> None:
    """Its attempt is not recorded before its pod runs, so only the wait before says why there is no pod."""
    count = 6
    world = under_quota(count, pods=0)
    s = Simulation(world, max_pending=2)
    s.settle()
    for _ in range(10):
        s.cluster()
        s.compare()  # which writes why a job is held
        s.settle()
        passes(s, 120)
    assert len(world.jobs) == count, "each has been a probe"
    late = [item["metadata"]["name"] for item in world.spokejobs() if not item["status"].get("attempts")]
    assert len(late) == count - 2, "their attempts are not recorded"
    written = len(world.writes)
    world.keeps_events = False
    if restart:
        s.restart()
    else:
        s.compare()
    s.settle()
    for _ in range(10):
        s.pass_time(START_TIMEOUT)
    assert set(causes(world).values()) == {"QuotaExceeded"}
    assert len(world.writes) == written
    world.quota = 2
    until_done(world, 100, lambda: turn(s))
    nobody_failed(world)
    for name in late:
        assert [item["number"] for item in world.objects[Kind.SPOKEJOB][name]["status"]["attempts"]] == [1]


def test_a_job_that_was_held_and_is_refused_for_another_quota_says_so() -> None:
    world = under_quota(3, pods=0)
    s = Simulation(world, max_pending=1)
    s.settle()
    s.cluster()
    s.compare()  # which writes why a job is held
    s.settle()
    held = {item["metadata"]["name"] for item in world.spokejobs() if not item["status"].get("attempts")}
    passes(s, 120)
    (probe,) = [job for job in world.jobs if any(job["metadata"]["name"].startswith(name) for name in held)]
    other = NEVER.replace(
        "few, requested: cpu=8, used: cpu=0, limited: cpu=4", "disks, requested: pods=1, used: pods=0, limited: pods=0"
    )
    world.fails_to_create(probe, other)
    s.settle()
    spokejob = next(world.objects[Kind.SPOKEJOB][name] for name in held if probe["metadata"]["name"].startswith(name))
    assert spokejob["status"]["waiting"]["object"] == "disks"
    assert [item["number"] for item in spokejob["status"]["attempts"]] == [1]


def test_a_pod_that_alone_exceeds_the_quota_is_named_ends_and_holds_nobody_up() -> None:
    world = under_quota(12)
    s = Simulation(world, max_pending=3)
    s.settle()
    for _ in range(12):
        for job in refused(world):
            world.fails_to_create(job, NEVER)
        s.settle()
    assert len(world.jobs) == 12
    assert set(causes(world).values()) == {"PodRejected"}
    s.pass_time(START_TIMEOUT + 1)
    for _ in range(3):
        world.garbage_collector()
        s.pass_time(5)
    assert set(causes(world).values()) == {"PodRejected"}
    assert all(item["status"]["outcome"] == "Failed" for item in world.spokejobs())
    assert NEVER in world.spokejobs()[0]["status"]["message"]


def test_a_pod_that_waited_for_a_quota_and_is_then_rejected_has_its_whole_start_timeout() -> None:
    world = under_quota(1, pods=0)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    s.pass_time(3600)
    assert causes(world) == {"job-0000": "QuotaExceeded"}
    world.fails_to_create(world.jobs[0], NEVER)
    s.settle()
    s.pass_time(START_TIMEOUT - 5)
    assert causes(world) == {"job-0000": "PodRejected"}
    assert world.spokejobs()[0]["status"]["outcome"] == "Waiting"
    s.pass_time(10)
    for _ in range(3):
        world.garbage_collector()
        s.pass_time(5)
    assert world.spokejobs()[0]["status"]["outcome"] == "Failed"


def test_a_race_for_a_quota_is_no_rejection() -> None:
    world = under_quota(1, pods=0)
    s = Simulation(world, max_pending=3)
    s.settle()
    s.cluster()
    race = 'Error creating: Operation cannot be fulfilled on resourcequotas "few": the object has been modified'
    world.fails_to_create(world.jobs[0], race)
    s.settle()
    s.pass_time(3600)
    assert causes(world) == {"job-0000": "QuotaExceeded"}
