"""Operators that die, lose an answer, or meet what others have made."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.unit.operator.fake_client import Crash, Fault
from tests.unit.operator.simulation import Simulation, run, start
from tests.unit.operator.world import NAME, NAMESPACE, World

from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

OURS = {"namespace": NAMESPACE}
"""The labels of the metrics of the model's SpokeJobs."""


@pytest.mark.parametrize("writes", [1, 2])
def test_why_an_attempt_was_stopped_is_known_though_its_pod_ended_while_no_operator_was_there(writes: int) -> None:
    s = start(timeoutSeconds=5, startTimeoutSeconds=5)
    s.cluster()
    s.world.now += timedelta(seconds=10.5)
    s.queue.ripen()
    s.client.faults = [None] * (writes - 1) + [Fault.CRASH_AFTER]
    with pytest.raises(Crash):
        run(s.controller.process(s.queue.ready.pop(0)))
    for _ in range(2):
        s.world.garbage_collector()
        s.world.kubelet()
        s.world.job_controller()
    s.restart()
    for _ in range(4):
        s.cluster()
        s.pass_time(2)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Timeout")
    assert len(s.world.created) == 1


def test_a_job_that_the_cache_lacks_is_looked_for_before_it_counts_as_deleted() -> None:
    s = start()
    s.cluster()
    job = s.world.jobs[0]["metadata"]
    s.store.jobs.remove_all(list(s.store.jobs))
    s.store.jobs._deleted.clear()
    s.queue.add(s.store.spokejobs.owner_of(next(iter(s.store.spokejobs))))
    s.settle()
    assert s.world.status["outcome"] == "Running"
    assert s.store.jobs.get(next(iter(s.store.jobs)).meta.key).meta.uid == job["uid"]  # type: ignore[union-attr]


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


def test_a_job_that_is_deleted_before_it_was_recorded_was_an_attempt_all_the_same() -> None:
    s = Simulation(World(retry={"backoffSeconds": 1}))
    s.client.faults = [None, Fault.ERROR_BEFORE]  # created; what is to be recorded of it is refused
    s.work()
    s.work()
    assert not s.world.status.get("attempts")
    s.world.delete(Kind.JOB, f"{NAME}-1")
    s.world.garbage_collector()
    s.settle()
    s.pass_time(5)
    assert [item["cause"] for item in s.world.status["attempts"][:1]] == ["JobDeleted"]
    assert [name for name, _ in s.world.created] == [f"{NAME}-1", f"{NAME}-2"]


def test_what_goes_on_is_told_when_its_turn_has_come_and_the_end_at_once() -> None:
    s = Simulation(World(retry={"backoffSeconds": 1}), news=(0.1, 1, 20))
    s.settle()
    assert s.world.status["attempt"] == 1, "the first turn"
    s.cluster()
    assert s.world.status["outcome"] == "Waiting", "that it runs has to wait"
    assert s.metrics.registry.get_sample_value("spoke_operator_job_start_seconds_sum", OURS) == 0, "the metric doesn't"
    s.pass_time(11)
    assert s.world.status["outcome"] == "Running"
    assert s.metrics.registry.get_sample_value("spoke_operator_job_start_seconds_count", OURS) == 1
    s.cluster(10)
    assert s.world.status["charged"] == {"error": 1}, "an end doesn't wait"
    s.pass_time(2)
    assert len(s.world.created) == 2, "nor does the next attempt's Job"
    assert (s.world.status["attempt"], s.world.status["cause"]) == (2, ""), "nor that it waits for that no more"
    s.cluster()
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"
    assert [item["number"] for item in s.world.status["attempts"]] == [1, 2]
    assert s.world.writes.count("status") == 5, s.world.writes


def untold() -> Simulation:
    """An attempt whose Job was made, of which the status doesn't tell yet: others have used up the budget."""
    s = Simulation(World(), news=(0.1, 1, 60))
    s.controller._throttle.wait(Key(NAMESPACE, "other"))
    s.settle()
    s.cluster()
    assert s.world.status.get("attempts", []) == []
    return s


def test_an_attempt_that_was_not_told_of_is_recorded_with_the_end_that_the_ledger_knows() -> None:
    s = untold()
    s.world.kubelet(11, message=json.dumps({"v": 1, "cause": "Discarded", "forGood": True}))
    s.world.set_ledger("Failed")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"], s.world.status["attempt"]) == ("Failed", "Discarded", 1)
    assert [(item["number"], item["exitCode"]) for item in s.world.status["attempts"]] == [(1, 11)]
    s = untold()
    s.world.set_ledger("Succeeded")
    s.settle()
    assert [item["number"] for item in s.world.status["attempts"]] == [1]
    assert s.controller._made == {}


def test_what_stands_in_the_way_no_more_is_taken_back_at_once() -> None:
    s = Simulation(World(), news=(0.1, 1, 60))
    s.settle()
    s.world.job_controller()
    s.world.container_waits("ErrImagePull")
    s.settle()
    assert s.world.status["cause"] == "ImageUnavailable"
    s.cluster()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Running", "")


@pytest.mark.parametrize("fault", [None, Fault.ERROR_BEFORE])
def test_a_pods_last_word_outlives_a_look_that_no_longer_finds_it(fault: Fault | None) -> None:
    s = start(retry={"backoffSeconds": 1})
    s.cluster()
    pod = s.world.pods[0]["metadata"]["name"]
    s.world.delete(Kind.POD, pod, graceful=True)
    s.settle()
    s.world._end_pod(s.world.objects[Kind.POD][pod], 10, "Error", json.dumps({"v": 1, "cause": "JobError"}))
    s.world.kubelet()  # it goes at once
    s.world.job_controller()
    while s.world.news:
        s.deliver()
    s.client.faults = [fault]
    s.work()
    s.compare()
    s.pass_time(2)
    first = s.world.status["attempts"][0]
    assert (first["cause"], first["exitCode"], s.world.status["charged"]) == ("JobError", 10, {"error": 1})


@pytest.mark.parametrize("restarts", [False, True])
def test_a_webhook_that_never_comes_back_ends_the_job_after_a_day_with_its_name(restarts: bool) -> None:
    world = World(startTimeoutSeconds=60)
    world.refuse_jobs = (500, 'Internal error occurred: failed calling webhook "mjob.kb.io": connection refused')
    s = Simulation(world)
    s.settle()
    for hour in range(24):
        assert s.world.status["outcome"] == "Waiting", hour
        if restarts:
            s.restart()
        s.pass_time(3601)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "StartTimeout")
    finished = next(item for item in s.world.status["conditions"] if item["type"] == "Finished")
    assert 'failed calling webhook "mjob.kb.io"' in finished["message"]
    assert finished["message"].endswith("then `spoke-jobs retry 7`.")


def test_a_retry_leaves_no_second_spokejob_of_the_same_job() -> None:
    """Whichever of the two the operator hears of first, also after a restart. The ledger keeps the history."""
    s = start(retry={"budget": {"error": 1}})
    s.cluster()
    s.cluster(10)
    assert s.world.status["outcome"] == "Failed"
    s.world.put_spokejob(f"{NAME}-other", requestId=8)
    s.settle()
    assert NAME in s.world.objects[Kind.SPOKEJOB], "that is another job's"
    s.world.put_spokejob(f"{NAME}-r2", run=2)
    s.settle()
    s.pass_time(29)
    assert NAME in s.world.objects[Kind.SPOKEJOB], "sync may not have read yet what its pod printed"
    assert [pod["metadata"]["name"] for pod in s.world.pods if pod["metadata"]["name"].startswith(f"{NAME}-1-")]
    s.pass_time(2)
    assert sorted(s.world.objects[Kind.SPOKEJOB]) == [f"{NAME}-other", f"{NAME}-r2"]


def test_a_second_run_that_came_while_no_operator_was_there_removes_the_first_one() -> None:
    s = start(retry={"budget": {"error": 1}})
    s.cluster()
    s.cluster(10)
    s.world.put_spokejob(f"{NAME}-r2", run=2)
    s.world.now += timedelta(minutes=2)
    s.restart()
    s.settle()
    assert sorted(s.world.objects[Kind.SPOKEJOB]) == [f"{NAME}-r2"]


def test_a_run_that_has_not_ended_stays_beside_the_next_one() -> None:
    s = start()
    s.cluster()
    s.world.put_spokejob(f"{NAME}-r2", run=2)
    s.settle()
    assert NAME in s.world.objects[Kind.SPOKEJOB], "its pod still runs"


def test_what_is_of_a_namespace_that_is_not_looked_at_takes_no_place() -> None:
    s = Simulation(World(), limits=Limits(running=1))
    s.pacer.reset()
    s.controller.prime(lambda namespace: namespace != NAMESPACE)
    assert (s.pacer.usage.total, len(s.pacer)) == (0, 0)
    s.controller.prime()
    assert s.pacer.usage.total == 1


@pytest.mark.parametrize("reason", ["DatabaseAway", "QuotaExceeded"])
def test_a_namespace_that_is_listed_late_continues_its_own_hold_and_no_other_s(reason: str) -> None:
    world = World()
    world.put_spokejob("theirs", "late")
    s = Simulation(world, max_pending=5)
    for name in (NAME, "theirs"):
        waiting = {"outcome": "Waiting", "cause": reason, "waiting": {"code": reason, "object": "few"}}
        world.change(Kind.SPOKEJOB, name, waiting, under="status")
    while world.news:
        s.deliver()
    s.pacer.reset()  # the hold of the first namespace has ended, and its SpokeJob still shows it
    s.controller.prime(begun="late")
    holds = s.pacer.usage.holds
    assert holds is not None
    assert [name for name in (NAMESPACE, "late") if holds.published(name)] == ["late"]
    s.controller.prime()
    assert [name for name in (NAMESPACE, "late") if holds.published(name)] == [NAMESPACE, "late"]


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
