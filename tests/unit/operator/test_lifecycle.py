"""Whole lives of a SpokeJob: the real controller and core against the model of the cluster."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, NAMESPACE, Fault, World

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs_operator.core.admit import Limits
from spoke_jobs_operator.core.model import Key
from spoke_jobs_operator.shell.client import Kind

WEEK = 7 * 24 * 3600


def start(**spec: Any) -> Simulation:
    simulation = Simulation(World(**spec))
    simulation.settle()
    return simulation


def conditions(simulation: Simulation) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in simulation.world.status["conditions"]}


def job_error() -> str:
    return TerminationMessage(cause="JobError", error_type="ValueError").encode().decode()


def test_success_takes_one_job_and_three_status_writes() -> None:
    s = start()
    s.cluster()
    assert s.world.status["outcome"] == "Running"
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"
    assert s.world.writes == [f"create {NAME}-1", "status", "status", "status"]
    (record,) = s.world.status["attempts"]
    assert (record["number"], record["job"], record["node"], record["exitCode"]) == (1, f"{NAME}-1", "node-1", 0)
    assert record["template"] == "uid-1/1"
    assert conditions(s) == {
        "Admitted": ("True", "JobCreated"),
        "Running": ("False", "Finished"),
        "Succeeded": ("True", "Succeeded"),
        "Finished": ("True", "Succeeded"),
    }


def test_three_errors_are_final_and_name_the_cause() -> None:
    s = start(retry={"backoffSeconds": 4, "jitter": 0})
    for _ in range(3):
        s.cluster()
        s.cluster(10, message=job_error())
        s.pass_time(10)
    assert s.world.status["outcome"] == "Failed"
    assert s.world.status["cause"] == "JobError"
    assert s.world.status["charged"] == {"error": 3}
    assert [item["errorType"] for item in s.world.status["attempts"]] == ["ValueError"] * 3
    assert [name for name, _ in s.world.created] == [f"{NAME}-{n}" for n in (1, 2, 3)]
    assert conditions(s)["Succeeded"] == ("False", "JobError")
    assert conditions(s)["Finished"] == ("True", "JobError")


def test_backoff_is_waited_out() -> None:
    s = start(retry={"backoffSeconds": 4, "jitter": 0})
    s.cluster()
    s.cluster(10)
    s.pass_time(3.9)
    assert len(s.world.created) == 1
    assert s.world.status["outcome"] == "Waiting"
    s.pass_time(0.2)
    assert len(s.world.created) == 2


def test_held_is_tried_again_uncharged() -> None:
    s = start()
    for wait in (2, 4, 8, 16, 32, 60, 60):
        s.cluster()
        s.cluster(12)
        attempt = s.world.status["attempt"]
        s.pass_time(wait - 0.5)
        assert s.world.status["attempt"] == attempt, "each try costs a pod: they grow apart"
        s.pass_time(1)
        assert s.world.status["attempt"] == attempt + 1
    assert s.world.status["charged"] == {}
    s.cluster()
    s.cluster(10)
    s.pass_time(3)
    s.cluster()
    s.cluster(12)
    attempt = s.world.status["attempt"]
    s.pass_time(2.5)
    assert s.world.status["attempt"] == attempt + 1, "not those in a row are counted"


def test_failed_for_good_is_final() -> None:
    s = start()
    s.cluster()
    s.cluster(11, message=TerminationMessage(cause="InvalidPayload", for_good=True).encode().decode())
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "InvalidPayload")


def test_run_timeout_deletes_the_job_before_the_outcome_is_final() -> None:
    s = start(timeoutSeconds=10)
    s.cluster()
    s.pass_time(10.5)
    assert s.world.status["outcome"] == "Running"
    assert s.world.status["attempts"][0]["cause"] == "Timeout"
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]
    s.world.garbage_collector()
    s.settle()
    assert s.world.status["outcome"] == "Running", "its pod still runs"
    s.cluster()
    s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Timeout")
    assert s.world.live_pods() == []


def test_a_job_that_succeeds_while_it_is_stopped_has_succeeded() -> None:
    s = start(timeoutSeconds=10)
    s.cluster()
    s.world.now = s.world.now.replace(second=30)
    s.queue.ripen()
    s.work()
    assert s.world.status["attempts"][0]["cause"] == "Timeout"
    s.world._end_pod(s.world.pods[0], 0, "", "")
    s.settle()
    assert s.world.status["outcome"] == "Succeeded"


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
@pytest.mark.parametrize("call", range(6))
def test_a_timed_out_attempt_is_a_timeout_wherever_the_operator_dies(fault: Fault, call: int) -> None:
    s = start(timeoutSeconds=10)
    s.cluster()
    s.client.faults = [None] * call + [fault]
    s.pass_time(10.5)
    for _ in range(8):
        s.cluster()
        if s.world.status["outcome"] == "Failed":
            assert s.world.live_pods() == [], "it is over once nothing of it runs"
        s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Timeout")
    assert len(s.world.created) == 1


def test_image_that_never_comes_ends_by_the_start_timeout_with_its_own_cause() -> None:
    s = start(startTimeoutSeconds=30, retry={"budget": {"image": 1}})
    s.world.job_controller()
    s.world.container_waits("ErrImagePull")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Waiting", "ImageUnavailable")
    writes = len(s.world.writes)
    s.world.container_waits("ImagePullBackOff")
    s.settle()
    assert len(s.world.writes) == writes, "the same reason in other words is no news"
    s.pass_time(31)
    for _ in range(2):
        s.world.garbage_collector()
        s.cluster()
        s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "ImageUnavailable")


def test_image_that_comes_late_heals() -> None:
    s = start()
    s.world.job_controller()
    s.world.container_waits("ErrImagePull")
    s.settle()
    s.pass_time(30)
    s.cluster()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Running", "")


def test_pod_deleted_by_force_gets_another_attempt() -> None:
    s = start()
    s.cluster()
    s.world.delete(Kind.POD, s.world.pods[0]["metadata"]["name"])
    s.settle()
    s.world.job_controller()
    s.settle()
    assert s.world.status["attempts"][0]["cause"] == "PodDeleted"
    s.pass_time(2)
    assert s.world.status["attempt"] == 2


def test_job_deleted_gets_another_attempt_once_its_pod_has_ended() -> None:
    s = start()
    s.cluster()
    s.world.delete(Kind.JOB, f"{NAME}-1")
    s.settle()
    assert s.world.status["attempts"][0]["cause"] == "JobDeleted"
    s.world.garbage_collector()
    s.pass_time(5)
    assert s.world.status["attempt"] == 1, "its pod still runs"
    s.cluster()
    s.pass_time(5)
    assert s.world.status["attempt"] == 2


def test_a_sidecar_that_runs_on_is_stopped_before_the_next_attempt() -> None:
    s = start()
    s.world.sidecars = True
    s.cluster()
    s.cluster(10)
    assert s.world.status["attempts"][0]["cause"] == "JobError"
    s.pass_time(9)
    assert (len(s.world.created), len(s.world.live_jobs())) == (1, 1)
    s.pass_time(2)
    assert len(s.world.created) == 2
    assert [job["metadata"]["name"] for job in s.world.live_jobs()] == [f"{NAME}-2"]


def test_a_job_that_the_cache_lacks_is_looked_for_before_it_counts_as_deleted() -> None:
    s = start()
    s.cluster()
    job = s.world.jobs[0]["metadata"]
    s.store.jobs.take_out(list(s.store.jobs))
    s.store.jobs._deleted.clear()
    s.queue.add(s.store.spokejobs.owner_of(next(iter(s.store.spokejobs))))
    s.settle()
    assert s.world.status["outcome"] == "Running"
    assert s.store.jobs.get(next(iter(s.store.jobs)).meta.key).meta.uid == job["uid"]  # type: ignore[union-attr]


def test_pod_on_a_dead_node_counts_as_lost_and_the_next_attempt_starts() -> None:
    s = start()
    s.cluster()
    s.world.silent_nodes = True
    s.world.delete(Kind.POD, s.world.pods[0]["metadata"]["name"], graceful=True)
    s.pass_time(34)
    assert s.world.status["attempt"] == 1
    assert "cause" not in s.world.status["attempts"][0] or not s.world.status["attempts"][0]["cause"]
    s.pass_time(3)
    s.world.garbage_collector()
    s.pass_time(5)
    assert s.world.status["attempts"][0]["cause"] == "NodeLost"
    assert s.world.status["attempt"] == 2


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


def test_missing_template_ends_by_the_start_timeout() -> None:
    s = Simulation(World(startTimeoutSeconds=30))
    s.world.delete(Kind.TEMPLATE, "default")
    s.settle()
    s.pass_time(29)
    assert s.world.status["outcome"] == "Waiting"
    s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "TemplateMissing")
    assert s.world.created == []


@pytest.mark.parametrize("name", ["../pods/x", "a/b", "a?b", "A", "a\n", "-a"])
def test_what_cannot_be_a_templates_name_ends_without_a_question(name: str) -> None:
    s = Simulation(World(podTemplate=name))
    s.controller.distrust(Key(NAMESPACE, NAME))
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "TemplateMissing")
    assert set(s.client.read_names) == {NAME}
    assert s.world.created == []


def test_a_status_field_that_the_crd_prunes_makes_no_endless_writes(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.pruned = {"observedGeneration"}
    s = Simulation(world)
    s.settle()
    s.cluster()
    assert s.world.status["outcome"] == "Running"
    s.world.writes.clear()
    s.compare()
    s.settle()
    assert s.world.writes == ["status"], "once for each look"
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"
    assert len([text for text in caplog.messages if "older than this operator" in text]) == 1


def test_timeouts_hold_where_the_crd_prunes() -> None:
    world = World(timeoutSeconds=20)
    world.pruned = {"observedGeneration"}
    s = Simulation(world)
    s.settle()
    s.cluster()
    s.pass_time(25)
    s.cluster()
    assert s.world.status["attempts"][0]["cause"] == "Timeout"


@pytest.mark.parametrize("seen_before", [True, False])
def test_an_exit_with_0_without_a_recorded_success_is_named(seen_before: bool) -> None:
    s = start()
    s.cluster()
    if seen_before:
        s.cluster(0)
        assert s.world.status["outcome"] == "Succeeded"
    else:
        s.world.kubelet(0)
    s.world.set_ledger("Failed")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "JobExited")
    (message,) = (item["message"] for item in s.world.status["conditions"] if item["type"] == "Succeeded")
    assert "Look for sys.exit" in message
    if seen_before:
        assert message.startswith("the ledger has recorded a failure. Look for")
    assert s.world.status["attempts"][0]["exitCode"] == 0


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


def test_what_to_do_is_said_in_full_after_whatever_kubernetes_says() -> None:
    world = World(startTimeoutSeconds=30)
    world.refuse_jobs = (403, "long " * 200)
    s = Simulation(world)
    s.settle()
    s.pass_time(31)
    (message,) = [item["message"] for item in s.world.status["conditions"] if item["type"] == "Finished"]
    assert message.startswith("long long")
    assert message.endswith(CAUSES["PodRejected"].advice)
    assert len(message) <= 500


def test_refused_job_waits_and_heals() -> None:
    world = World()
    world.refuse_jobs = (403, "exceeded quota")
    s = Simulation(world)
    s.settle()
    assert s.world.status["cause"] == "PodRejected"
    s.pass_time(11)
    s.world.refuse_jobs = None
    s.pass_time(11)
    assert s.world.status["attempt"] == 1
    assert s.world.writes == ["status", f"create {NAME}-1", "status"]


def test_suspend_stops_admission_only() -> None:
    s = start(suspend=True)
    assert (s.world.status["cause"], s.world.created) == ("Suspended", [])
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": False}, under="spec")
    s.settle()
    s.cluster()
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": True}, under="spec")
    s.settle()
    assert s.world.status["outcome"] == "Running"


def test_success_in_the_ledger_wins_over_a_lost_pod() -> None:
    s = start()
    s.cluster()
    s.world.set_ledger("Succeeded")
    s.settle()
    assert s.world.status["outcome"] == "Succeeded"
    assert s.world.status["attempts"][0]["finishedAt"]


def test_success_in_the_ledger_corrects_a_failed_outcome() -> None:
    s = start(retry={"budget": {"error": 1}})
    s.cluster()
    s.cluster(10)
    assert s.world.status["outcome"] == "Failed"
    s.world.set_ledger("Succeeded")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Succeeded", "")


def test_times_stay_where_nothing_changed() -> None:
    s = start(retry={"budget": {"error": 1}})

    def times() -> dict[str, str]:
        return {item["type"]: item["lastTransitionTime"] for item in s.world.status["conditions"]}

    admitted = times()
    s.pass_time(5)
    s.cluster()
    running = times()
    assert {name for name in running if running[name] != admitted[name]} == {"Running"}
    s.pass_time(5)
    s.cluster(10)
    final, ended_at = times(), s.world.status["finishedAt"]
    assert {name for name in final if final[name] != running[name]} == {"Running", "Succeeded", "Finished"}
    s.pass_time(5)
    s.world.set_ledger("Succeeded")
    s.settle()
    assert {name for name in final if times()[name] != final[name]} == {"Succeeded"}
    assert s.world.status["finishedAt"] == ended_at


def test_failure_in_the_ledger_stops_the_attempt() -> None:
    s = start()
    s.cluster()
    s.world.set_ledger("Failed")
    s.settle()
    assert s.world.status["outcome"] == "Failed"
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]


def test_jobs_go_after_their_retention_and_the_spokejob_after_its_time_to_live() -> None:
    s = start(ttlSecondsAfterFinished=300)
    s.cluster()
    s.cluster(0)
    s.pass_time(59)
    assert len(s.world.jobs) == 1
    s.pass_time(2)
    assert s.world.jobs == []
    s.pass_time(1000)
    assert s.world.objects[Kind.SPOKEJOB], "its end isn't in the ledger yet"
    s.world.set_ledger("Succeeded")
    s.settle()
    assert not s.world.objects[Kind.SPOKEJOB]


def test_spokejob_whose_end_never_comes_to_the_ledger_goes_after_a_week() -> None:
    s = start(ttlSecondsAfterFinished=300)
    s.cluster()
    s.cluster(0)
    s.pass_time(WEEK - 60)
    assert s.world.objects[Kind.SPOKEJOB]
    s.pass_time(120)
    assert not s.world.objects[Kind.SPOKEJOB]


@pytest.mark.parametrize("moment", ["waiting", "running", "backing off", "finished"])
def test_restart_in_a_world_that_is_as_it_should_be_writes_nothing(moment: str) -> None:
    s = start(retry={"backoffSeconds": 60})
    if moment != "waiting":
        s.cluster()
    if moment == "backing off":
        s.cluster(10)
    if moment == "finished":
        s.cluster(0)
    s.world.writes.clear()
    for _ in range(3):
        s.restart()
        s.settle()
        s.compare(everything=True)
        s.settle()
    assert s.world.writes == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("call", range(14))
def test_an_operator_that_dies_or_fails_at_any_call_comes_to_the_same_end(fault: Fault, call: int) -> None:
    s = Simulation(World(retry={"backoffSeconds": 1}))
    s.client.faults = [None] * call + [fault]
    for code in (10, 0):
        for _ in range(3):
            s.pass_time(2)
            s.cluster()
        s.cluster(code)
        s.pass_time(2)
    for _ in range(3):
        s.pass_time(2)
        s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NAME}-2"]


def test_another_objects_job_in_the_way_is_named_and_waited_for() -> None:
    s = Simulation(World())
    s.world._store(Kind.JOB, s.world._new(f"{NAME}-1"))
    s.settle()
    assert s.world.status["cause"] == "NameTaken"
    s.world.delete(Kind.JOB, f"{NAME}-1")
    s.pass_time(11)
    assert s.world.status["attempt"] == 1


def test_the_job_of_an_earlier_spokejob_of_the_name_is_not_taken_for_ours() -> None:
    s = Simulation(World())
    labels = {"jobs.spoke.dev/spokejob": NAME, "jobs.spoke.dev/attempt": "1"}
    earlier = s.world._new(f"{NAME}-1", labels=labels)
    earlier["metadata"]["ownerReferences"] = [{"uid": "an earlier one's", "controller": True}]
    s.world._store(Kind.JOB, earlier)
    s.settle()
    assert (s.world.status["cause"], s.world.status.get("attempts", [])) == ("NameTaken", [])


def test_a_job_that_a_dead_operator_made_is_recorded_even_if_none_could_be_made_now() -> None:
    s = Simulation(World())
    s.client.faults = [None, Fault.CRASH_BEFORE]  # created, not recorded
    s.work()
    s.world.change(Kind.SPOKEJOB, NAME, {"suspend": True}, under="spec")
    s.world.delete(Kind.TEMPLATE, "default")
    s.settle()
    s.cluster()
    assert (s.world.status["outcome"], s.world.status["attempt"]) == ("Running", 1)
    assert s.world.writes[0] == f"create {NAME}-1"
    assert len(s.world.created) == 1


def test_unreadable_spokejob_ends_as_invalid_spec() -> None:
    s = start(requestId="seven")
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "InvalidSpec")
    assert s.world.writes == ["status"]


def test_limit_on_running_jobs_is_kept_and_said() -> None:
    s = Simulation(World(), limits=Limits(running=1))
    s.settle()
    assert s.world.status["attempt"] == 1


def memory(simulation: Simulation) -> str:
    container = simulation.world.jobs[-1]["spec"]["template"]["spec"]["containers"][0]
    return str(container["resources"]["limits"]["memory"])


def test_who_ran_out_of_memory_gets_more_up_to_a_bound() -> None:
    resources = {"limits": {"memory": "100Mi"}}
    retry = {"backoffSeconds": 1, "jitter": 0, "budget": {"oom": 5}, "memoryFactor": 2, "memoryMax": "300Mi"}
    s = start(resources=resources, retry=retry)
    given = []
    for _ in range(4):
        given.append(memory(s))
        s.cluster()
        s.world.kubelet(137, reason="OOMKilled")
        s.settle()
        s.cluster()
        s.pass_time(10)
    assert given == ["100Mi", "200Mi", "300Mi", "300Mi"]
    assert s.world.status["charged"] == {"oom": 4}


@pytest.mark.parametrize("running", [False, True])
def test_a_cancelled_job_is_ended_and_final(running: bool) -> None:
    s = start()
    if running:
        s.cluster()
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    s.settle()
    assert s.world.status["attempts"][0]["cause"] == "Cancelled"
    assert s.world.status["outcome"] == ("Running" if running else "Failed"), "what runs is ended first"
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Cancelled")
    assert s.world.live_pods() == []
    assert len(s.world.created) == 1


def test_one_that_is_cancelled_before_its_first_attempt_never_starts() -> None:
    s = start(suspend=True)
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Cancelled")
    assert s.world.created == []


def test_a_success_that_came_before_the_cancellation_stays() -> None:
    s = start()
    s.cluster()
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    s.world.kubelet(0)
    s.settle()
    assert s.world.status["outcome"] == "Succeeded"


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


def test_the_start_timeout_counts_from_kueue_s_admission() -> None:
    s = queued_by_kueue()
    s.pass_time(3600)
    kueue_admits(s, admits=True)
    s.pass_time(31)
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "StartTimeout")


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


def test_a_job_that_was_made_but_not_recorded_keeps_its_place_over_a_restart() -> None:
    world = World(queue="q", locksQueue=True)
    s = Simulation(world)
    s.client.faults = [Fault.CRASH_AFTER]  # the Job is made, and the operator dies before it says so
    s.work()
    assert len(world.created) == 1
    world.put_spokejob("second", queue="q", locksQueue=True, priority=5)
    s.restart()
    s.queue.ready.sort(key=lambda key: key.name != "second")  # the other one is looked at first
    s.work()
    assert [name for name, _ in world.created] == [f"{NAME}-1"]


def test_what_had_all_of_the_start_timeout_to_heal_is_not_given_another() -> None:
    s = start(startTimeoutSeconds=30)
    s.world.job_controller()
    s.world.container_waits("ErrImagePull")
    s.settle()
    for _ in range(3):
        s.pass_time(31)
        s.cluster()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "ImageUnavailable")
    assert len(s.world.created) == 1
    assert s.world.live_pods() == []


def test_after_a_write_whose_answer_was_lost_the_objects_are_read_live() -> None:
    s = start()
    s.world.job_controller()
    s.world.kubelet()
    while s.world.news:
        s.deliver()
    s.client.faults = [Fault.ERROR_AFTER]
    s.work()  # "Running" is written, and nobody says so: the event is lost as well
    s.world.news.clear()
    s.client.read_names.clear()
    s.pass_time(1)
    assert s.client.read_names, "what is remembered is older than what was written"
    assert s.world.writes.count("status") == 2
    assert s.world.status["outcome"] == "Running"
