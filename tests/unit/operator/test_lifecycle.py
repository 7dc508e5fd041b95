"""Whole lives of a SpokeJob, from its creation to its end and removal."""

from __future__ import annotations

import pytest
from tests.unit.operator import world
from tests.unit.operator.simulation import Simulation, conditions, start
from tests.unit.operator.world import NAME, NAMESPACE

from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs_operator.shell.api.operator_client import Kind

WEEK = 7 * 24 * 3600


def job_error() -> str:
    return TerminationMessage(cause="JobError", error_type="ValueError").encode().decode()


def counted(s: Simulation, outcome: str, cause: str) -> float | None:
    """How many the metrics say have ended so."""
    labels = {"namespace": NAMESPACE, "outcome": outcome, "cause": cause}
    return s.metrics.registry.get_sample_value("spoke_operator_jobs_finished_total", labels)


def test_success_takes_one_job_and_three_status_writes() -> None:
    s = start()
    s.cluster()
    assert s.world.status["outcome"] == "Running"
    s.cluster(0)
    assert s.world.status["outcome"] == "Succeeded"
    assert s.world.writes == [f"create {NAME}-1", "status", "status", "status"]
    assert counted(s, "Succeeded", "") == 1
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
    assert counted(s, "Failed", "JobError") == 1


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
    s = start(timeoutSeconds=5, startTimeoutSeconds=5)
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
    assert s.world.writes.count("status") <= 4, "started, runs, is to be stopped, ended"


def test_an_attempt_runs_for_as_long_as_its_namespace_allowed_at_its_start() -> None:
    own = world.World(startTimeoutSeconds=10)
    own.put_limit("short", scope="all", maxTimeoutSeconds=50)
    s = Simulation(own)
    s.settle()
    s.cluster()
    s.world.put_limit("short", scope="all", maxTimeoutSeconds=5000)
    s.pass_time(59)
    assert not s.world.status["attempts"][0].get("cause")
    s.pass_time(2)
    assert s.world.status["attempts"][0]["cause"] == "Timeout"


def test_a_job_that_succeeds_while_it_is_stopped_has_succeeded() -> None:
    s = start(timeoutSeconds=5, startTimeoutSeconds=5)
    s.cluster()
    s.world.now = s.world.now.replace(second=30)
    s.queue.ripen()
    s.work()
    assert s.world.status["attempts"][0]["cause"] == "Timeout"
    s.world._end_pod(s.world.pods[0], 0, "", "")
    s.settle()
    assert s.world.status["outcome"] == "Succeeded"


def test_a_pod_that_its_node_could_not_start_is_not_charged_and_a_bound_of_its_own_ends_the_job() -> None:
    s = start()
    said = "failed to create containerd task: failed to create shim task: context deadline exceeded: unknown"
    for number in range(1, 51):
        s.world.job_controller()
        s.settle()
        s.world._end_pod(s.world.pods[-1], 128, "StartError", said)
        s.settle()
        assert (s.world.status["attempt"], s.world.status["charged"]) == (number, {})
        assert s.world.status["notCharged"] == {"disruption": number}
        assert s.world.status["outcome"] == ("Waiting" if number < 50 else "Failed")
        s.pass_time(400)
    assert s.world.status["cause"] == "ContainerRuntimeFailed"
    assert said in s.world.status["message"]


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
    s.pass_time(10)
    assert s.world.status["attempts"][0]["cause"] == "NodeLost"
    assert (s.world.status["charged"], s.world.status["notCharged"]) == ({}, {"disruption": 1})
    assert s.world.status["attempt"] == 2


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


def test_failure_in_the_ledger_stops_the_attempt() -> None:
    s = start()
    s.cluster()
    s.world.set_ledger("Failed")
    s.settle()
    assert s.world.status["outcome"] == "Failed"
    assert s.world.status["attempts"][0]["cause"] == s.world.status["cause"] == "Cancelled", "what else ends it there?"
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]


def test_one_that_is_cancelled_in_the_ledger_while_it_waits_says_so_and_not_for_what_it_waited() -> None:
    s = start(retry={"backoffSeconds": 100})
    s.cluster()
    s.cluster(10)
    assert s.world.status["cause"] == "JobError"
    s.world.set_ledger("Failed")
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "Cancelled")
    assert s.world.status["attempts"][0]["cause"] == "JobError"


def test_grace_longer_than_the_operators_patience_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "GRACE", 600)
    s = start(timeoutSeconds=50, startTimeoutSeconds=10, retry={"budget": {"timeout": 3}, "backoffSeconds": 1})
    s.cluster()
    s.pass_time(61)
    s.world.silent_nodes = True
    for _ in range(50):
        s.world.garbage_collector()
        s.pass_time(10)
    assert len(s.world.created) == 1, "what runs may go on for so long"
    for _ in range(15):
        s.pass_time(10)
    assert len(s.world.created) == 2


def test_the_next_attempt_waits_for_a_pod_that_nobody_has_ended_yet() -> None:
    s = start(timeoutSeconds=50, startTimeoutSeconds=10, retry={"budget": {"timeout": 3}, "backoffSeconds": 1})
    s.cluster()
    s.pass_time(61)
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]
    for _ in range(30):
        s.pass_time(10)
    assert len(s.world.live_pods()) == len(s.world.created) == 1, "the garbage collector is late"
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert [item["cause"] for item in s.world.status["attempts"][:1]] == ["Timeout"]
    assert len(s.world.created) == 2


def test_a_deleted_job_that_stays_without_pods_delays_the_next_attempt_two_minutes_at_most() -> None:
    s = start(startTimeoutSeconds=30, retry={"budget": {"timeout": 3}, "backoffSeconds": 1})
    s.pass_time(31)
    assert "deletionTimestamp" in s.world.jobs[0]["metadata"]
    s.pass_time(115)
    assert len(s.world.created) == 1
    s.pass_time(6)
    assert len(s.world.created) == 2


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


def test_unreadable_spokejob_ends_as_invalid_spec(caplog: pytest.LogCaptureFixture) -> None:
    s = start(requestId="seven")
    s.compare(everything=True)
    s.settle()
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", "InvalidSpec")
    assert s.world.writes == ["status"]
    assert counted(s, "Failed", "InvalidSpec") == 1
    (line,) = (record for record in caplog.records if "InvalidSpec" in record.message)
    assert (line.levelname, vars(line)["spokejob"]) == ("WARNING", f"{NAMESPACE}/{NAME}")
    (condition,) = (item for item in s.world.status["conditions"] if item["type"] == "Finished")
    for text in (line.message, condition["message"]):
        assert "spec.requestId" in text


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
