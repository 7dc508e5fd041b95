"""What a SpokeJob waits for, how that heals, and how it ends if it does not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.unit.operator.simulation import Simulation, conditions, start
from tests.unit.operator.test_room import causes, crowd
from tests.unit.operator.world import NAME, NAMESPACE, START, World

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind


def memory(simulation: Simulation) -> str:
    container = simulation.world.jobs[-1]["spec"]["template"]["spec"]["containers"][0]
    return str(container["resources"]["limits"]["memory"])


def kueue_admits(s: Simulation, *, admits: bool) -> None:
    name = s.world.jobs[-1]["metadata"]["name"]
    s.world.change(Kind.JOB, name, {"suspend": not admits}, under="spec")
    condition = {
        "type": "Suspended",
        "status": "False" if admits else "True",
        "lastTransitionTime": s.world.now.isoformat(),
    }
    s.world.change(Kind.JOB, name, {"conditions": [condition]}, under="status")
    s.settle()


def queued_by_kueue() -> Simulation:
    world = World(startTimeoutSeconds=30, retry={"backoffSeconds": 1, "jitter": 0})
    world.put_template(kueue="team-a")
    s = Simulation(world)
    s.settle()
    return s


def test_missing_template_waits_and_heals() -> None:
    s = Simulation(World())
    s.world.delete(Kind.TEMPLATE, "default")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Waiting", "TemplateMissing")
    assert conditions(s)["Blocked"] == ("True", "TemplateMissing")
    s.pass_time(60)
    assert s.world.writes == ["status"]
    s.world.put_template(allowed=False)
    s.settle()
    assert s.world.status["cause"] == "TemplateNotAllowed"
    s.world.put_template()
    s.settle()
    assert "Blocked" not in conditions(s)
    assert s.world.writes == ["status", "status", f"create {NAME}-1", "status"]


def test_a_missing_template_is_read_once_for_all_that_name_it() -> None:
    world = crowd(50, room=100)
    s = Simulation(world)
    world.delete(Kind.TEMPLATE, "default")
    s.settle()
    assert set(causes(world).values()) == {"TemplateMissing"}
    assert s.client.read_names == ["default"]
    s.pass_time(60)
    world.put_spokejob("later")
    s.settle()
    assert causes(world)["later"] == "TemplateMissing"
    assert s.client.read_names == ["default", "default"], "what was read a minute ago may have changed"


def test_a_template_whose_event_was_lost_is_found_by_the_read() -> None:
    s = Simulation(World())
    s.store.templates._drop(Key(NAMESPACE, "default"))
    s.work()
    assert s.client.read_names == ["default"]
    s.settle()
    assert [name for name, _ in s.world.created] == [f"{NAME}-1"]


def test_a_template_that_is_not_for_its_type_is_waited_for_and_ends_it() -> None:
    s = Simulation(World(startTimeoutSeconds=30))
    s.world.put_template(annotations={"jobs.spoke.dev/allowed-types": "report, import_*"})
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Waiting", "TypeNotAllowed")
    s.pass_time(31)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "TypeNotAllowed")
    assert not s.world.jobs


def test_resources_that_are_allowed_later_start_it() -> None:
    s = Simulation(World(resources={"limits": {"memory": "8Gi"}}))
    s.world.put_template(annotations={"jobs.spoke.dev/max-resources": "memory=4Gi"})
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Waiting", "ResourcesNotAllowed")
    said = next(item["message"] for item in s.world.status["conditions"] if item["type"] == "Blocked")
    assert "limits.memory 8Gi is more than the maximum" in said
    s.world.put_template(annotations={"jobs.spoke.dev/max-resources": "memory=8Gi"})
    s.settle()
    assert memory(s) == "8Gi"


@pytest.mark.parametrize("name", ["../pods/x", "a/b", "a?b", "A", "a\n", "-a"])
def test_what_cannot_be_a_templates_name_ends_without_a_question(name: str) -> None:
    s = Simulation(World(podTemplate=name))
    s.controller.read_live_next(Key(NAMESPACE, NAME))
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "TemplateMissing")
    assert set(s.client.read_names) == {NAME}
    assert s.world.created == []


def test_a_refusal_gone_by_doesnt_hasten_the_wait_for_a_template() -> None:
    world = World()
    world.refuse_jobs = (403, "exceeded quota")
    s = Simulation(world)
    s.settle()
    world.delete(Kind.TEMPLATE, "default")
    s.settle()
    s.pass_time(15)  # the queue of the simulation refuses delays that are too short
    assert s.world.status["cause"] == "TemplateMissing"
    s.pass_time(600)
    assert s.world.status["outcome"] == "Failed"


def test_what_cannot_start_by_a_template_starts_anew_once_that_is_changed() -> None:
    s = Simulation(World(startTimeoutSeconds=600))
    s.settle()
    s.world.job_controller()
    s.world.container_waits("ImagePullBackOff")
    s.settle()
    s.world.put_template(image="app:2")
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    first, second = s.world.status["attempts"]
    assert (first["cause"], second["template"].partition("/")[2]) == ("TemplateChanged", "2")
    assert s.world.status["charged"] == {}
    assert s.world.jobs[-1]["spec"]["template"]["spec"]["containers"][0]["image"] == "app:2"
    s.cluster()
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_changed_template_disturbs_nobody_else(state: str) -> None:
    s = Simulation(World())
    s.settle()
    s.world.job_controller()
    s.settle()
    if state == "running":
        s.cluster()
    s.world.put_template(image="app:2")
    s.pass_time(60)
    assert [item["metadata"]["name"] for item in s.world.live_jobs()] == [f"{NAME}-1"]
    assert s.world.status["attempt"] == 1


def test_an_unusable_or_older_template_is_not_what_was_waited_for() -> None:
    s = Simulation(World())
    s.settle()
    s.world.job_controller()
    s.world.container_waits("ImagePullBackOff")
    s.settle()
    s.world.put_template(image="app:2", allowed=False)
    s.pass_time(60)
    assert s.world.status["attempt"] == 1
    assert s.world.status["cause"] == "ImageUnavailable"


def test_suspend_stops_admission_only() -> None:
    s = start(suspend=True)
    assert (s.world.status["cause"], s.world.created) == ("Suspended", [])
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": False}, under="spec")
    s.settle()
    s.cluster()
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": True}, under="spec")
    s.settle()
    assert s.world.status["outcome"] == "Running"


def test_a_new_process_knows_what_is_paused_before_it_starts_anything() -> None:
    world = World()
    world.put_limit("stop", scope="all", paused={"reason": "upgrade"})
    s = Simulation(world)
    while s.queue.ready:  # before its watches have reported anything
        s.work()
    assert world.jobs == []
    assert world.status["cause"] == "Paused"


def test_jobs_start_at_their_rate_and_each_says_once_what_it_waits_for() -> None:
    world = World()
    world.put_limit("slow", scope="all", rate="2/min", burst=1)
    for number in range(3):
        world.put_spokejob(f"more-{number}")
    s = Simulation(world)
    s.settle()
    statuses = [item["status"] for item in world.objects[Kind.SPOKEJOB].values()]
    assert {status["cause"] for status in statuses} == {"RateLimitReached"}
    assert {status["waiting"]["source"] for status in statuses} == {"SpokeLimit slow"}
    due = {datetime.fromisoformat(status["waiting"]["retryAt"]) for status in statuses}
    assert due == {START + timedelta(seconds=30)}, "a new process begins without tokens"
    writes = len(world.writes)
    for jobs in range(1, 5):
        s.pass_time(29)
        s.compare(everything=True)
        s.settle()
        assert len(world.jobs) == jobs - 1
        assert len(world.writes) == writes, "another time of the next token is not worth a write"
        s.pass_time(1)
        assert len(world.jobs) == jobs
        writes = len(world.writes)


@pytest.mark.parametrize("running", [False, True])
def test_a_cancelled_attempt_keeps_its_place_until_the_garbage_collector_has_ended_its_pod(running: bool) -> None:
    theirs = {"organization": 1, "queue": "a"}
    s = Simulation(World(**theirs), limits=Limits(for_organization=3))
    s.world.put_spokejob("job-2", **theirs)
    s.pass_time(1)
    s.world.job_controller()
    if running:
        s.world.kubelet()
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    s.pass_time(1)
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]
    s.restart()
    s.pass_time(120)
    for name in ("job-3", "job-4", "job-5"):
        s.world.put_spokejob(name, **theirs)
    s.pass_time(1)
    assert "deletionTimestamp" not in s.world.pods[0]["metadata"], "the garbage collector has not come to it yet"
    assert "finishedAt" not in s.world.status["attempts"][0]
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", "job-2-1", "job-3-1"]
    s.cluster()
    s.pass_time(1)
    s.world.kubelet()
    s.pass_time(1)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Cancelled")
    assert [name for name, _ in s.world.created][3:] == ["job-4-1"]


def test_what_kueue_holds_back_waits_without_a_start_timeout() -> None:
    s = queued_by_kueue()
    job = s.world.jobs[0]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["spec"]["suspend"] is True
    s.pass_time(3600)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Waiting", "QueuedByKueue")
    kueue_admits(s, admits=True)
    s.pass_time(29)
    assert s.world.status["outcome"] == "Waiting"
    s.cluster()
    assert s.world.status["outcome"] == "Running"
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"


def test_the_start_timeout_does_not_count_until_the_job_controller_has_noticed_the_admission() -> None:
    s = queued_by_kueue()
    name = s.world.jobs[0]["metadata"]["name"]
    condition = {"type": "Suspended", "status": "True", "lastTransitionTime": s.world.now.isoformat()}
    s.world.change(Kind.JOB, name, {"conditions": [condition]}, under="status")
    s.pass_time(3600)
    s.world.change(Kind.JOB, name, {"suspend": False}, under="spec")
    s.pass_time(1)
    assert (s.world.status["outcome"], s.world.status["attempt"]) == ("Waiting", 1)
    kueue_admits(s, admits=True)
    s.cluster()
    assert s.world.status["outcome"] == "Running"


def test_what_kueue_preempts_is_tried_again_uncharged() -> None:
    s = queued_by_kueue()
    kueue_admits(s, admits=True)
    s.cluster()
    assert s.world.status["outcome"] == "Running"
    kueue_admits(s, admits=False)
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert [item["cause"] for item in s.world.status["attempts"]] == ["Preempted", ""]
    assert s.world.status["charged"] == {}
    assert s.world.status["cause"] == "QueuedByKueue", "the next one queues again"


def test_a_queue_is_locked_by_one_that_kueue_holds_back() -> None:
    world = World(queue="q", locksQueue=True)
    world.put_template(kueue="team-a")
    world.put_spokejob("second", queue="q", locksQueue=True)
    s = Simulation(world)
    s.settle()
    kueue_admits(s, admits=False)
    s.pass_time(60)
    assert [job["metadata"]["name"] for job in world.jobs] == [f"{NAME}-1"]
    assert (world.status["outcome"], world.status["cause"]) == ("Waiting", "QueuedByKueue")
    assert world.objects[Kind.SPOKEJOB]["second"]["status"]["cause"] == "QueueLocked"
    kueue_admits(s, admits=True)
    s.cluster()
    assert len(world.created) == 1, "it holds the lock while it runs"
    s.cluster(0)
    assert [name for name, _ in world.created] == [f"{NAME}-1", "second-1"]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("ErrImagePull", "ImageUnavailable"), ("CreateContainerConfigError", "ContainerConfigError")],
)
def test_what_had_all_of_the_start_timeout_to_heal_is_not_given_another(reason: str, cause: str) -> None:
    assert CAUSES[cause].waited_for, "as the documentation says"
    s = start(startTimeoutSeconds=30)
    s.world.job_controller()
    s.world.container_waits(reason)
    s.settle()
    for _ in range(3):
        s.pass_time(31)
        s.cluster()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", cause)
    assert len(s.world.created) == 1
    assert s.world.live_pods() == []
