"""Attempts that the operator assigns to standby pods: which ones, and that each job ends once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.fake_client import Crash, Fault
from tests.unit.operator.fake_standby import FakeStandby
from tests.unit.operator.simulation import Simulation, run
from tests.unit.operator.standby_scene import (
    attempts,
    dispatch,
    finish,
    pods,
    scene,
    status_of,
    warm,
    world_without_jobs,
)
from tests.unit.operator.world import NAME, NAMESPACE

from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind
from spoke_jobs_operator.shell.standby.pod_calls import Reply

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_job_takes_a_standby_pod_and_a_new_one_follows() -> None:
    s = scene()
    assert pods(s) == [""]
    (pod,) = s.world.live_pods()
    s.world.writes.clear()
    dispatch(s, traceparent=TRACE)
    (record,) = status_of(s)["attempts"]
    assert (status_of(s)["outcome"], record["lane"], record["pod"]) == ("Running", "standby", pod["metadata"]["name"])
    assert s.world.live_pods()[0]["metadata"]["uid"] == pod["metadata"]["uid"], "no new pod was needed"
    (variables,) = s.standby.taken.values()
    assert (variables["SPOKE_REQUEST_ID"], variables["SPOKE_ATTEMPT"], variables["TRACEPARENT"]) == ("7", "1", TRACE)
    job = s.world.objects[Kind.JOB][record["job"]]
    assert [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == ["SpokeJob"]
    labels = s.world.live_pods()[0]["metadata"]["labels"]
    assert (labels["jobs.spoke.dev/spokejob"], labels["jobs.spoke.dev/request-id"]) == (NAME, "7")
    assert attempts(s, "hit") == 1
    warm(s)
    assert pods(s) == ["", NAME]
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"
    assert pods(s) == [""]
    spans = [(str(span.name), span.attributes["k8s.job.name"]) for span in s.spans]
    assert spans == [("admit", record["job"])], "nothing of the pod from before the assignment"


def test_jobs_beyond_the_free_ones_get_pods_of_their_own_at_once() -> None:
    s = scene()
    for name in ("a", "b"):
        s.world.put_spokejob(name, lane="standby", uid=f"0a1b2c3d-0000-4000-8000-00000000000{name}")
    s.settle()
    lanes = sorted(status_of(s, name)["attempts"][0].get("lane", "") for name in ("a", "b"))
    assert lanes == ["", "standby"]
    assert (attempts(s, "hit"), attempts(s, "none_free")) == (1, 1)
    warm(s)
    assert pods(s) == ["", "", "a", "b"], "as many are kept as came at once"
    finish(s)
    assert [status_of(s, name)["outcome"] for name in ("a", "b")] == ["Succeeded", "Succeeded"]
    s.pass_time(1200)
    finish(s)
    assert pods(s) == [""], "and the fewest, when no more come"


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.POD])
def test_without_the_right_to_hand_over_the_job_gets_a_pod_of_its_own(kind: Kind) -> None:
    s = scene()
    s.world.refuses_patches = kind
    dispatch(s, retry={"backoffSeconds": 1})
    for _ in range(4):
        s.cluster()
        s.pass_time(2)
    first, second = status_of(s)["attempts"]
    assert (first["cause"], second.get("lane", "")) == ("StandbyLost", "")
    assert status_of(s).get("charged", {}) == {}
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"


def test_a_handover_that_fails_until_the_start_timeout_is_given_up() -> None:
    """An admission webhook for updates of pods may be broken for good."""
    s = scene()
    patch = s.client.patch_metadata

    async def fail(patched: Kind, key: Key, metadata: Mapping[str, Any]) -> Any:
        if patched is Kind.POD:
            raise api_error(500, "InternalError", "failed calling webhook")
        return await patch(patched, key, metadata)

    s.client.patch_metadata = fail  # type: ignore[method-assign]
    dispatch(s, startTimeoutSeconds=60, retry={"backoffSeconds": 1})
    for _ in range(4):
        s.pass_time(10)
    assert len(status_of(s)["attempts"]) == 1, "it is tried until then"
    for _ in range(6):
        s.pass_time(10)
        s.cluster()
    assert [item.get("lane", "") for item in status_of(s)["attempts"]] == ["standby", ""]
    first = status_of(s)["attempts"][0]
    assert (first["cause"], first["message"]) == ("StandbyLost", "failed calling webhook")
    assert status_of(s).get("charged", {}) == {}
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.POD])
def test_a_new_leader_tries_a_handover_also_after_its_start_timeout(kind: Kind) -> None:
    s = scene()
    s.client.faults = [None, *([None] if kind is Kind.POD else []), Fault.CRASH_BEFORE]
    dispatch_one_step_at_a_time(s)
    s.world.now += timedelta(seconds=3000)
    s.restart()
    s.settle()
    (record,) = status_of(s)["attempts"]
    assert (status_of(s)["outcome"], record["lane"]) == ("Running", "standby")


def dispatch_one_step_at_a_time(s: Simulation) -> None:
    """Dispatch, and let the process crash as its faults say, without a new process that goes on at once."""
    s.world.put_spokejob(NAME, lane="standby")
    while s.world.news:
        s.deliver()
    with pytest.raises(Crash):
        for _ in range(9):
            run(s.controller.process(Key(NAMESPACE, NAME)))


def test_a_pod_that_ends_before_it_is_told_charges_the_job_nothing() -> None:
    """It is killed for its own memory, and the operator has not seen that yet."""
    s = scene()
    s.standby.assign = killed_before(s, Reply.NOT_CONNECTED)  # type: ignore[method-assign]
    dispatch(s)
    for _ in range(4):
        s.pass_time(1)
        s.cluster()
    first, second = status_of(s)["attempts"]
    assert (first["cause"], second.get("lane", "")) == ("StandbyLost", "")
    assert status_of(s).get("charged", {}) == {}
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"


def test_a_pod_that_ends_when_it_may_have_been_told_counts_by_its_exit() -> None:
    s = scene()
    s.standby.assign = killed_before(s, Reply.NONE)  # type: ignore[method-assign]
    dispatch(s)
    s.pass_time(1)
    assert status_of(s)["attempts"][0]["cause"] == "OutOfMemory"
    assert status_of(s)["charged"] == {"oom": 1}


def killed_before(s: Simulation, reply: Reply) -> Any:
    """An assignment whose pod has been killed."""

    async def assign(ip: str, secret: str, body: bytes) -> Reply:
        is_idle, s.world.is_idle = s.world.is_idle, lambda _pod: False
        s.world.kubelet(137, reason="OOMKilled")
        s.world.is_idle = is_idle
        return reply

    return assign


def test_a_pod_that_does_not_answer_is_given_up_and_the_job_gets_its_own() -> None:
    s = scene()
    s.standby.silent = True
    dispatch(s)
    for _ in range(8):
        s.cluster()
        s.pass_time(1)
    assert [item.get("lane", "") for item in status_of(s)["attempts"]] == ["standby", ""]
    assert status_of(s)["attempts"][0]["cause"] == "StandbyLost"
    assert s.standby.tells == 3
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"


def running_but_not_recorded(*, same_key: bool) -> Simulation:
    """A job that runs in a standby pod, as its status does not say yet: many others have taken the writes.

    The next leader has the same key or another, and does not reach the pod.
    """
    world = world_without_jobs()
    s = Simulation(world, standby=FakeStandby(world), news=(0.0001, 1, 60))
    warm(s)
    s.world.put_spokejob("other", lane="pod", uid="0a1b2c3d-0000-4000-8000-00000000000a")
    s.settle()
    s.cluster()
    dispatch(s)
    s.pass_time(5)
    assert NAME in pods(s)
    assert status_of(s)["attempts"][0].get("pod", "") == ""
    s.standby.key = s.standby.key if same_key else b"y" * 32
    s.standby.silent = True
    return s


@pytest.mark.parametrize("same_key", [True, False])
def test_a_new_leader_that_does_not_reach_a_pod_leaves_its_job_alone(*, same_key: bool) -> None:
    s = running_but_not_recorded(same_key=same_key)
    s.restart()
    s.settle()
    for _ in range(20):
        s.pass_time(2)
    assert status_of(s)["attempts"][0].get("cause", "") == ""
    assert s.standby.tells < 12, "it is told again ever later"
    s.standby.silent = False
    finish(s)
    assert [item["lane"] for item in status_of(s)["attempts"]] == ["standby"]
    assert status_of(s)["outcome"] == "Succeeded"


@pytest.mark.parametrize(("lost", "busy", "same_key"), [(8, 0, True), (2, 100, False)])
def test_a_new_leader_after_a_long_outage_leaves_a_job_alone_whose_pod_answers_again(
    lost: int, busy: float, *, same_key: bool
) -> None:
    """However long the new leader has been busy with others before."""
    s = running_but_not_recorded(same_key=same_key)
    s.world.now += timedelta(seconds=3000)  # longer than the start timeout
    s.restart()
    s.pass_time(busy)
    for _ in range(lost - 1):
        s.pass_time(2)
    assert status_of(s)["attempts"][0].get("cause", "") == ""
    s.standby.silent = False
    finish(s)
    assert [item["lane"] for item in status_of(s)["attempts"]] == ["standby"]
    assert status_of(s)["outcome"] == "Succeeded"


def test_an_attempt_whose_pod_may_run_it_keeps_its_place_until_the_pod_has_ended() -> None:
    s = scene(retry={"backoffSeconds": 1})
    accept = s.standby.assign

    async def answer_is_lost(ip: str, secret: str, body: bytes) -> Reply:
        await accept(ip, secret, body)
        return Reply.NONE

    s.standby.assign = answer_is_lost  # type: ignore[method-assign]
    dispatch(s, retry={"backoffSeconds": 1})
    for _ in range(4):
        s.pass_time(1)
    (record,) = status_of(s)["attempts"]
    assert (record["cause"], record.get("finishedAt")) == ("StandbyLost", None)
    assert s.pacer.has_place(Key(NAMESPACE, NAME))
    s.standby.assign = accept  # type: ignore[method-assign]
    finish(s)
    assert "finishedAt" in status_of(s)["attempts"][0]


def assigned_and_not_taken() -> Simulation:
    s = scene()
    s.world.put_spokejob(NAME, lane="standby", retry={"backoffSeconds": 1})
    s.client.faults = [None, Fault.ERROR_BEFORE]
    while s.world.news:
        s.deliver()
    s.work()
    s.work()
    assert status_of(s)["attempts"][0]["lane"] == "standby"
    return s


def test_a_cancelled_job_gives_its_pod_back_or_ends_it() -> None:
    s = assigned_and_not_taken()
    s.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert (status_of(s)["outcome"], status_of(s)["cause"]) == ("Failed", "Cancelled")
    assert s.standby.taken == {}
    assert pods(s) == [""]


def test_the_timeout_counts_from_the_assignment() -> None:
    s = scene()
    s.pass_time(1800)
    dispatch(s, timeoutSeconds=60, startTimeoutSeconds=60)
    s.pass_time(100)
    assert status_of(s)["outcome"] == "Running", "it waited for half an hour before"
    s.pass_time(30)
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    assert status_of(s)["attempts"][0]["cause"] == "Timeout"


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("call", range(10))
def test_an_operator_that_dies_or_fails_at_any_step_comes_to_the_same_end(call: int, fault: Fault) -> None:
    """Every job ends once, no pod is told of two attempts, and none is left over."""
    s = scene(retry={"backoffSeconds": 1})
    s.world.put_spokejob(NAME, lane="standby", retry={"backoffSeconds": 1})
    s.client.faults = [None] * call + [fault]
    for _ in range(3):
        s.settle()
        if call % 2 and not s.client.faults:  # the next leader has another key
            s.standby.key = b"y" * 32
            s.restart()
        s.pass_time(2)
    finish(s)
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"
    assert status_of(s).get("charged", {}) == {}
    names = [item["job"] for item in status_of(s)["attempts"]]
    assert len(set(names)) == len(names) <= 2
    told = [variables["SPOKE_REQUEST_ID"] for variables in s.standby.taken.values()]
    assert len(told) <= 1
    warm(s)
    assert pods(s) == [""] or pods(s) == ["", ""]


def test_a_forged_standby_pod_is_never_used() -> None:
    """Somebody who may create Jobs copies one with all its labels and annotations under another name."""
    s = scene("0-3")
    assert pods(s) == []
    real = scene()
    (job,) = real.world.jobs
    forged = s.world._new("forged", labels=job["metadata"]["labels"])
    forged["metadata"] |= {"annotations": job["metadata"]["annotations"], "ownerReferences": []}
    s.world._store(Kind.JOB, forged | {"spec": job["spec"]})
    s.settle()
    warm(s)
    dispatch(s)
    assert status_of(s)["attempts"][0].get("lane", "") == ""


@pytest.mark.parametrize("orphaned", [False, True])
def test_a_spokejob_that_is_deleted_gives_its_pod_back_or_ends_it(*, orphaned: bool) -> None:
    """`kubectl delete --cascade=orphan` takes the owner from the Job. Else the garbage collector deletes it."""
    s = scene()
    dispatch(s)
    job = next(item for item in s.world.jobs if item["metadata"]["labels"]["jobs.spoke.dev/spokejob"] == NAME)
    if orphaned:
        s.world.change(Kind.JOB, job["metadata"]["name"], {"ownerReferences": []}, under="metadata")
    s.world.delete(Kind.SPOKEJOB, NAME)
    if not orphaned:
        s.world.delete(Kind.JOB, job["metadata"]["name"])
    for _ in range(3):
        s.cluster()
        s.world.now += timedelta(seconds=40)
        s.settle()
    warm(s)
    assert pods(s) == [""]


def test_a_job_with_a_free_standby_pod_does_not_wait_for_room() -> None:
    world = world_without_jobs()
    world.room = 1
    s = Simulation(world, standby=FakeStandby(world), max_pending=1)
    warm(s)
    assert pods(s) == [""]
    for name in ("a", "b"):
        dispatch(s, name, lane="pod", uid=f"0a1b2c3d-0000-4000-8000-00000000000{name}")
        s.cluster()
    assert status_of(s, "b").get("attempts", []) == [], "one pod waits for room, so the next one is not made"
    dispatch(s)
    assert status_of(s)["attempts"][0]["lane"] == "standby"
    s.cluster()
    assert status_of(s)["outcome"] == "Running"
    assert status_of(s, "b").get("attempts", []) == []


def test_an_attempt_that_an_earlier_process_assigned_ends_once_without_the_setting() -> None:
    s = assigned_and_not_taken()
    s.standby.keeps, s.standby.key = False, b"x" * 32
    s.restart()
    for _ in range(3):
        s.cluster()
        s.pass_time(2)
    finish(s)
    assert status_of(s)["outcome"] == "Succeeded"
    assert status_of(s).get("charged", {}) == {}
    assert pods(s) == []
