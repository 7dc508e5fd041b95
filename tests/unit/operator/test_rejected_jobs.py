"""Many SpokeJobs whose Jobs an admission policy rejects: few are tried, and all say what rejects them."""

from __future__ import annotations

from collections import Counter

from tests.unit.operator.simulation import Simulation
from tests.unit.operator.test_pacing_machine import Crowd
from tests.unit.operator.test_quota import admitted, nobody_failed
from tests.unit.operator.test_room import causes, crowd, goes_on, passes, until_done

from spoke_jobs_operator.core.obstacles.rejection_hold import OF_A_TYPE
from spoke_jobs_operator.core.reporting.published_state import report

POLICY = "ValidatingAdmissionPolicy 'require-team' with binding 'all' denied request: the label team is missing"
DENIED = (422, POLICY)


def rejected(count: int, start_timeout: int = 600, **spec: str) -> Crowd:
    world = crowd(count, room=1000, startTimeoutSeconds=start_timeout, **spec)
    world.refuse_jobs = DENIED
    return world


def all_start(s: Simulation, world: Crowd) -> None:
    until_done(world, 200, lambda: goes_on(s, 5))
    nobody_failed(world)


def test_few_are_tried_each_minute_and_all_others_name_the_policy() -> None:
    world = rejected(200, start_timeout=3600)
    s = Simulation(world, max_pending=5)
    s.settle()
    s.compare()
    passes(s, 60)
    assert world.jobs_refused <= 3 * OF_A_TYPE, "at first after 10 s, then after 20 s"
    assert Counter(causes(world).values()) == {"PodRejected": OF_A_TYPE, "PodsNotStarting": 200 - OF_A_TYPE}
    written = len(world.writes)
    for _ in range(10):
        tried = world.jobs_refused
        for _ in range(6):
            passes(s, 10)
        assert world.jobs_refused - tried <= OF_A_TYPE, "one each minute, where all 200 were tried before"
    assert len(world.writes) == written, "it is said once"
    waiting = world.spokejobs()[-1]
    assert admitted(waiting) == f"PodRejected: {POLICY}"
    assert waiting["status"]["waiting"]["object"] == "PodRejected"
    state = report("jobs", s.pacer.limits, s.pacer.usage, (), s.store.unfinished())
    (hold,) = state.to_json()["holds"]
    assert (hold["reason"], hold["obstacles"], hold["template"]) == ("PodsNotStarting", ["PodRejected"], "default")
    assert s.pacer.usage.total == 0


def test_all_start_within_two_minutes_after_the_policy_is_corrected() -> None:
    world = rejected(60)
    s = Simulation(world, max_pending=5)
    s.settle()
    passes(s, 300)
    world.refuse_jobs = None
    passes(s, 61)
    s.settle()
    assert len(world.created) >= 5
    for _ in range(20):
        s.cluster()
        passes(s, 3)
    assert len(world.created) == 60, "none of them has ended"
    all_start(s, world)


def test_those_that_are_tried_end_at_their_start_timeout_and_others_take_their_turn() -> None:
    world = rejected(40, start_timeout=120)
    s = Simulation(world, max_pending=5)
    s.settle()
    for _ in range(40):
        passes(s, 10)
    s.compare()
    s.pass_time(1)
    ended = [item for item in world.spokejobs() if item["status"]["outcome"] == "Failed"]
    assert len(ended) == 3 * OF_A_TYPE, "ten every two minutes"
    assert {item["status"]["cause"] for item in ended} == {"PodRejected"}
    assert any(item["status"]["cause"] == "PodRejected" for item in world.spokejobs() if item not in ended)


def test_a_new_leader_tries_few_again() -> None:
    world = rejected(100)
    s = Simulation(world, max_pending=5)
    s.settle()
    passes(s, 30)
    tried = world.jobs_refused
    s.restart()
    s.settle()
    assert world.jobs_refused - tried <= 2 * OF_A_TYPE + 5
