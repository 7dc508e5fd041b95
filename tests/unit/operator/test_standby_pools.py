"""The pool of standby pods in the model of a cluster: kept, replaced, counted, and never needed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.fake_standby import FakeStandby
from tests.unit.operator.simulation import Simulation, run
from tests.unit.operator.standby_scene import WANTS, dispatch, finish, pods, scene, status_of, warm, world_without_jobs
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind
from spoke_jobs_operator.shell.standby.standby_pods import pool_of


def test_without_the_setting_there_are_no_standby_pods_and_the_job_runs() -> None:
    world = World(lane="standby")
    world.put_template(annotations=WANTS)
    s = Simulation(world)
    s.settle()
    s.cluster()
    assert [name for name, _ in world.created] == [f"{NAME}-1"]
    assert status_of(s)["outcome"] == "Running"
    assert "lane" not in status_of(s)["attempts"][0] or status_of(s)["attempts"][0]["lane"] == ""


def test_pods_of_an_earlier_template_are_replaced_and_not_used() -> None:
    s = scene()
    (old,) = s.world.live_pods()
    s.world.put_template(image="app:2", annotations=WANTS)
    dispatch(s)
    assert status_of(s)["attempts"][0].get("lane", "") == "", "the standby pod would have run the old image"
    warm(s)
    assert old["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in s.world.live_pods()}
    assert pods(s) == ["", NAME] or pods(s) == ["", "", NAME]


def test_a_template_that_is_gone_or_wants_none_any_more_leaves_none() -> None:
    for change in (
        lambda world: world.delete(Kind.TEMPLATE, "default"),
        lambda world: world.put_template(annotations={"jobs.spoke.dev/standby": "0-0"}),
        lambda world: world.put_template(annotations={"jobs.spoke.dev/standby": "3-1"}),
        lambda world: world.put_template(),
    ):
        s = scene()
        labels = {"namespace": NAMESPACE, "state": "free"}
        assert s.metrics.registry.get_sample_value("spoke_operator_standby_pods", labels) == 1
        change(s.world)
        s.settle()
        warm(s)
        assert pods(s) == []
        assert s.world.jobs == []
        if not s.published(NAMESPACE):
            assert s.metrics.registry.get_sample_value("spoke_operator_standby_pods", labels) is None


def test_the_standby_pods_of_each_template_are_counted_for_the_cluster_page() -> None:
    """As the metric counts them, which knows the namespace alone."""
    s = scene("2-3")
    s.world.put_template(name="small", annotations=WANTS)
    s.settle()

    def counts() -> dict[str, tuple[int, int, int]]:
        found = {each.template: (each.free, each.starting, each.assigned) for each in s.pools(NAMESPACE)}
        values = [
            s.metrics.registry.get_sample_value("spoke_operator_standby_pods", {"namespace": NAMESPACE, "state": state})
            for state in ("free", "starting", "assigned")
        ]
        assert values == [sum(numbers) for numbers in zip(*found.values(), strict=True)]
        return found

    assert counts() == {"default": (2, 0, 0), "small": (0, 1, 0)}
    assert s.pools("another") == []
    (spokejob, free) = Key(NAMESPACE, "another"), Key(NAMESPACE, s.world.jobs[0]["metadata"]["name"])
    s.standby_pods.reserve(spokejob, free)
    assert {each.template: each.free + each.starting for each in s.pools(NAMESPACE)} == {"default": 1, "small": 1}
    s.standby_pods.reserve(spokejob, None)
    dispatch(s)
    s.pass_time(1)
    default = counts()["default"]
    assert (default[0], default[2]) == (1, 1)
    finish(s)
    warm(s)
    assert counts() == {"default": (2, 0, 0), "small": (1, 0, 0)}


def test_pods_that_fail_are_tried_again_ever_later_and_the_template_says_so() -> None:
    world = world_without_jobs()
    standby = FakeStandby(world)
    s = Simulation(world, standby=standby)
    world.is_idle = lambda _pod: False  # their process ends: the application can't be imported
    standby.silent = True
    for _ in range(60):
        s.pass_time(2)
        s.cluster(10, message='{"v": 1, "cause": "BadSetup"}')
    made = sum(1 for name, _ in world.created if "-standby-" in name)
    assert 4 <= made <= 7, "after 5, 10, 20, 40 s"
    told = [event for name, event in s.events if name == "default"]
    assert {event.reason for event in told} == {"StandbyPodFailed"}
    assert "BadSetup" in told[0].note
    (said,) = s.published(NAMESPACE)
    assert (said.template, said.failure) == ("default", "BadSetup")
    assert said.retry_at is not None
    failed = [job for job in world.jobs if "-standby-" in job["metadata"]["name"]]
    assert len(failed) <= 2, "the newest one is kept, to be looked at"
    world.is_idle, standby.silent = standby.is_idle, False
    for _ in range(80):
        s.pass_time(5)
        s.cluster()
    assert s.published(NAMESPACE) == [], "one is ready"


def made(s: Simulation) -> int:
    return sum(1 for name, _ in s.world.created if "-standby-" in name)


def test_pods_that_fail_once_they_are_ready_are_tried_again_ever_later() -> None:
    """They answer once, and then take all their memory."""
    s = scene("3-3")
    failing = s.standby
    for _ in range(60):
        s.world.is_idle = lambda _pod: False
        s.cluster(137)
        s.world.is_idle = failing.is_idle
        s.pass_time(1)
        s.cluster()
        s.pass_time(1)
    assert made(s) <= 3 * 7, "after 5, 10, 20, 40 s"
    for _ in range(700):
        s.pass_time(1)
        s.cluster()
    assert pods(s) == [""] * 3
    before = made(s)
    s.world.is_idle = lambda _pod: False
    s.cluster(137)
    s.world.is_idle = failing.is_idle
    for _ in range(8):
        s.pass_time(1)
    assert made(s) == before + 3, "they were good for a long time, so the waits begin anew"


def test_a_pod_that_gets_an_attempt_ends_the_wait() -> None:
    s = scene("2-2")
    memory = s.standby_pods.memory(Key(NAMESPACE, "default"))
    memory.failures, memory.failure, memory.retry_at = 9, "Killed", s.world.now + timedelta(seconds=300)
    dispatch(s)
    warm(s)
    assert pods(s) == ["", "", NAME]
    assert (memory.failures, memory.failure, memory.retry_at) == (0, None, None)


def test_a_fixed_template_is_tried_at_once() -> None:
    world = world_without_jobs()
    s = Simulation(world, standby=FakeStandby(world))
    world.is_idle = lambda _pod: False
    for _ in range(30):
        s.pass_time(2)
        s.cluster(10, message='{"v": 1, "cause": "BadSetup"}')
    before = made(s)
    s.settle()
    assert made(s) == before
    world.put_template(image="app:2", annotations=WANTS)
    s.settle()
    assert made(s) == before + 1


def test_a_template_that_asks_for_the_impossible_says_why_and_its_jobs_run() -> None:
    s = scene("5-2")
    assert pods(s) == []
    assert [(name, event.reason) for name, event in s.events] == [("default", "NoStandbyPods")]
    assert "MIN must not be over MAX" in s.events[0][1].note
    (said,) = s.published(NAMESPACE)
    assert "MIN must not be over MAX" in (said.problem or "")
    dispatch(s)
    s.cluster()
    assert status_of(s)["outcome"] == "Running"
    s.world.put_template()
    s.settle()
    assert s.published(NAMESPACE) == [], "what it asks for no more is no problem"


def test_a_quota_that_allows_none_delays_no_job() -> None:
    world = World(lane="standby")
    world.put_template(annotations=WANTS)
    world.refuse_jobs = (403, 'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1')
    world.refused_type = "none yet"
    s = Simulation(world, standby=FakeStandby(world))
    s.settle()
    s.cluster()
    assert status_of(s)["outcome"] == "Running"
    assert world.jobs_refused == 1


def test_a_job_that_cannot_be_deleted_stops_no_pool() -> None:
    s = scene()
    (job,) = s.world.jobs
    forged = s.world._new("forged", labels=job["metadata"]["labels"])
    forged["metadata"] |= {
        "annotations": job["metadata"]["annotations"] | {"jobs.spoke.dev/pod-template": "aaa"},
        "ownerReferences": [{"uid": "workflow"}],
    }
    s.world._store(Kind.JOB, forged | {"spec": job["spec"], "status": {"started": True}})
    delete, tries = s.client.delete_job, []

    async def refuse(key: Key, uid: str, version: str = "", **arguments: Any) -> Any:
        if key.name == "forged":
            tries.append(s.world.now)
            raise api_error(422, "Invalid", "ValidatingAdmissionPolicy denied the request")
        return await delete(key, uid, version, **arguments)

    s.client.delete_job = refuse  # type: ignore[method-assign]
    for _ in range(30):
        s.pass_time(1)
    dispatch(s)
    warm(s)
    assert pods(s) == ["", NAME], "another one waits in the place of the used one"
    assert 1 <= len(tries) <= 3


def test_an_error_in_one_pool_is_tried_again_for_ever() -> None:
    s = scene()
    create = s.client.create_job

    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("unexpected")

    s.client.create_job = fail  # type: ignore[method-assign]
    s.world.put_template(annotations={"jobs.spoke.dev/standby": "2-3"})
    while s.world.news:
        s.deliver()
    for _ in range(20):
        with pytest.raises(RuntimeError, match="unexpected"):
            run(s.controller.process(pool_of(NAMESPACE)))
    s.client.create_job = create  # type: ignore[method-assign]
    s.settle()
    warm(s)
    assert pods(s) == ["", ""]


def test_pods_that_each_node_refuses_are_made_ever_later() -> None:
    world = world_without_jobs()
    standby = FakeStandby(world)
    standby.silent = True
    s = Simulation(world, standby=standby)
    for _ in range(60):
        s.pass_time(2)
        s.world.job_controller()
        s.settle()
        for pod in world.live_pods():
            world.change(Kind.POD, pod["metadata"]["name"], {"phase": "Failed", "reason": "OutOfcpu"}, under="status")
        s.settle()
        s.world.job_controller()
        s.settle()
    assert 2 <= len(world.created) <= 8


def test_a_new_leader_does_not_take_the_age_of_those_that_wait_for_their_start_time() -> None:
    s = scene("5-50")
    s.pass_time(1800)
    s.restart()
    s.settle()
    s.pass_time(1)
    most = 0
    for number in range(12):
        dispatch(s, f"j{number}", uid=f"0a1b2c3d-0000-4000-8000-0000000000{number:02d}")
        s.pass_time(8)
        s.cluster()
        most = max(most, pods(s).count(""))
    assert most <= 6


def test_a_new_leader_with_another_key_replaces_them_and_leaves_what_runs() -> None:
    s = scene("2-3")
    dispatch(s)
    (runs,) = [pod for pod in s.world.live_pods() if pod["metadata"]["labels"]["jobs.spoke.dev/spokejob"]]
    free = {pod["metadata"]["uid"] for pod in s.world.live_pods()} - {runs["metadata"]["uid"]}
    s.standby.key = b"x" * 32
    s.restart()
    s.settle()
    warm(s)
    lives = {pod["metadata"]["uid"] for pod in s.world.live_pods()}
    assert runs["metadata"]["uid"] in lives
    assert not lives & free
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"
    assert len(status_of(s)["attempts"]) == 1


@pytest.mark.parametrize("same_key", [True, False])
def test_a_new_leader_reports_no_pods_that_it_has_not_asked(*, same_key: bool) -> None:
    """Nor those that it replaces, because it has another key."""
    s = scene("22-22")
    s.world.put_template(name="small", annotations=WANTS)
    warm(s)
    s.pass_time(300)
    s.standby.key = s.standby.key if same_key else b"x" * 32
    s.restart()
    for _ in range(4):
        s.work()
        s.pass_time(0)
    assert s.events == []
    warm(s)
    assert (s.events, s.published(NAMESPACE)) == ([], [])


def test_without_the_setting_any_more_those_that_wait_are_deleted_and_what_runs_goes_on() -> None:
    s = scene("2-3")
    dispatch(s)
    s.standby.keeps = False
    s.restart()
    s.settle()
    warm(s)
    assert pods(s) == [NAME]
    finish(s)
    assert (status_of(s)["outcome"], len(status_of(s)["attempts"])) == ("Succeeded", 1)
    assert pods(s) == []


def test_pods_that_run_and_do_not_answer_are_named_and_delay_no_job() -> None:
    """A NetworkPolicy of the application may lack the operator."""
    world = world_without_jobs()
    standby = FakeStandby(world)
    standby.silent = True
    s = Simulation(world, standby=standby)
    warm(s)
    assert s.published(NAMESPACE) == []
    for _ in range(20):
        s.pass_time(10)
    assert [(item.template, item.hindrance) for item in s.published(NAMESPACE)] == [("default", "NoAnswer")]
    assert [(name, event.reason) for name, event in s.events] == [("default", "StandbyPodFailed")], "said once"
    dispatch(s)
    s.cluster()
    assert status_of(s)["outcome"] == "Running"
    standby.silent = False
    for _ in range(4):
        s.pass_time(10)
    assert s.published(NAMESPACE) == []
