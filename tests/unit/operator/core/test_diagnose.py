from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.core.objects import NOW, exited, job, pod, running, waiting

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs_operator.core.diagnosis.attempt_state import Bounds, Ended, Pends, Runs, Unclear
from spoke_jobs_operator.core.diagnosis.diagnose import diagnose
from spoke_jobs_operator.core.diagnosis.pod_end import has_ended
from spoke_jobs_operator.core.objects.api_objects import Job, Pod, WarningEvent
from spoke_jobs_operator.core.objects.read_objects import read_event

BOUNDS = Bounds(start=600, run=None)


def look(
    attempt: Job | None, *pods: Pod, bounds: Bounds = BOUNDS, live: bool = False, events: tuple[WarningEvent, ...] = ()
) -> Ended | Runs | Pends | Unclear:
    return diagnose(attempt, pods, events, bounds, NOW, live=live)


def end(*seen: Any, **more: Any) -> Ended:
    """How it has ended."""
    state = look(*seen, **more)
    assert isinstance(state, Ended)
    return state


def pends(*seen: Any, **more: Any) -> Pends:
    """What it waits for."""
    state = look(*seen, **more)
    assert isinstance(state, Pends)
    return state


def told(cause: str, *, for_good: bool = False) -> str:
    return TerminationMessage(cause=cause, error_type="app.Broken", for_good=for_good).encode().decode()


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (pod("Succeeded", state=exited(0, "Completed")), ""),
        (pod("Succeeded"), ""),
        (pod(state=exited(0)), ""),
        (pod("Failed", state=exited(10, message=told("JobError"))), "JobError"),
        (pod("Failed", state=exited(10, message=told("DatabaseUnreachable"))), "DatabaseUnreachable"),
        (pod("Failed", state=exited(10, message="Traceback ...")), "JobError"),
        (pod("Failed", state=exited(11, message=told("InvalidPayload"))), "InvalidPayload"),
        (pod("Failed", state=exited(12)), "QueueHeld"),
        (pod("Failed", state=exited(12, message=told("StartPaused"))), "StartPaused"),
        (pod("Failed", state=exited(10, message=told("StartPaused"))), "StartPaused"),
        (pod("Failed", state=exited(13)), "Superseded"),
        (pod("Failed", state=exited(14, message=told("Interrupted"))), "Interrupted"),
        (pod("Failed", state=exited(14), deleted=20), "PodDeleted"),
        (pod("Failed", state=exited(14), disruption="EvictionByEvictionAPI", deleted=20), "Drained"),
        (pod("Failed", state=exited(137), disruption="PreemptionByScheduler"), "Drained"),
        (pod("Failed", state=exited(137), disruption="DeletionByTaintManager"), "Drained"),
        (pod("Failed", state=exited(137), disruption="DeletionByTaintManager", silent=True), "NodeLost"),
        (pod("Failed", state=exited(143), disruption="TerminationByKubelet", reason="Terminated"), "Drained"),
        (pod("Failed", state=exited(143), disruption="TerminationByKubelet", reason="Preempting"), "Drained"),
        (pod("Failed", state=exited(137), disruption="TerminationByKubelet", reason="Evicted"), "Evicted"),
        (pod("Failed", state=exited(137), disruption="TerminationByKubelet"), "Evicted"),
        (pod("Failed", reason="NodeShutdown"), "Drained"),
        (pod("Failed", reason="NodeLost"), "NodeLost"),
        (pod("Failed", state=exited(1)), "JobExited"),
        (pod("Failed", state=exited(3, message=told("JobError"))), "JobExited"),
        (pod("Failed", state=exited(139)), "JobExited"),
        (pod("Failed", state=exited(137)), "Killed"),
        (pod("Failed", state=exited(143)), "Killed"),
        (pod("Failed", state=exited(137, "OOMKilled")), "OutOfMemory"),
        (pod("Failed", state=exited(128, "StartError", "no such file")), "ContainerCannotRun"),
        (pod("Failed", state=exited(137, "ContainerStatusUnknown")), "NodeLost"),
        (pod("Failed", state=exited(255, "Unknown")), "NodeLost"),
        (pod("Failed", state=exited(137, "ContainerStatusUnknown"), reason="Evicted"), "Evicted"),
        (pod("Failed", reason="Evicted", disruption="TerminationByKubelet"), "Evicted"),
        (pod("Failed", reason="UnexpectedAdmissionError"), "NodeRefused"),
        (pod("Failed", state=exited(137), reason="UnexpectedAdmissionError"), "NodeRefused"),
        (pod("Failed", state=exited(10, message=told("JobError")), reason="OutOfcpu"), "JobError"),
        (pod("Failed"), "PodFailed"),
        (pod("Failed", reason="DeadlineExceeded"), "Timeout"),
        (pod("Failed", disruption="DeletionByPodGC"), "NodeLost"),
    ],
)
def test_a_pods_end_names_its_cause(seen: Pod, cause: str) -> None:
    found = end(job(), seen)
    assert found.cause == cause
    assert not found.stop
    assert cause == "" or cause in CAUSES


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (pod("Failed", state=exited(143)), "Preempted"),
        (pod("Failed", state=exited(14, message=told("Interrupted"))), "Preempted"),
        (pod("Failed", state=exited(137), deleted=20), "Preempted"),
        (pod("Failed", state=exited(137), disruption="TerminationByKubelet", reason="Evicted"), "Preempted"),
        (pod("Failed", state=exited(10, message=told("JobError"))), "JobError"),
        (pod("Failed", state=exited(137, "OOMKilled")), "OutOfMemory"),
    ],
)
def test_the_pod_of_a_job_that_is_suspended_was_preempted_unless_it_failed_by_itself(seen: Pod, cause: str) -> None:
    found = end(replace(job(), suspended=True), seen)
    assert (found.cause, found.stop) == (cause, cause == "Preempted")


def test_what_ran_out_of_memory_names_the_limit_of_the_job_s_container() -> None:
    containers = [
        {"name": "sidecar", "resources": {"limits": {"memory": "1Gi"}}},
        {"name": "job", "resources": {"limits": {"memory": "40Mi"}}},
    ]
    found = end(job(), pod("Failed", state=exited(137, "OOMKilled"), spec={"containers": containers}))
    assert (found.cause, found.message) == ("OutOfMemory", "The container's memory limit was 40Mi.")
    unlimited = look(job(), pod("Failed", state=exited(137, "OOMKilled"), spec={"containers": [{"name": "job"}]}))
    assert unlimited == Ended("OutOfMemory", exit_code=137), "its node ran out of memory"


@pytest.mark.parametrize("code", [14, 143])
def test_what_the_jobs_own_deadline_ended_has_timed_out(code: int) -> None:
    """Nobody of ours was there to end it sooner."""
    failed = job(("Failed", "DeadlineExceeded"))
    found = end(failed, pod("Failed", state=exited(code), deleted=10))
    assert found.cause == "Timeout"
    gone = end(failed, bounds=Bounds(start=600, run=60, ran=True), live=True)
    assert gone.cause == "Timeout", "its pod is gone, and was seen to run"


def test_the_termination_message_says_more() -> None:
    end = look(job(), pod("Failed", state=exited(11, message=told("InvalidPayload", for_good=True))))
    assert end == Ended("InvalidPayload", error_type="app.Broken", exit_code=11, for_good=True)


def test_an_unknown_cause_of_a_newer_release_is_kept_and_what_is_no_cause_is_not() -> None:
    found = end(job(), pod("Failed", state=exited(10, message=told("NewCause"))))
    assert found.cause == "NewCause"
    found = end(job(), pod("Failed", state=exited(10, message=told("X" * 100))))
    assert found.cause == "JobError"


def test_success_of_any_pod_wins() -> None:
    assert look(job(), pod(state=exited(0), version=3), pod(state=running(), version=9)) == Ended("", exit_code=0)


def test_a_complete_job_has_succeeded_whatever_the_pod_says_yet() -> None:
    assert look(job(("Complete", "")), pod(state=running())) == Ended("", exit_code=0)


def test_a_job_that_is_not_there_is_asked_for_before_it_counts_as_deleted() -> None:
    assert look(None, pod(state=running())) == Unclear()
    assert look(None, pod(state=running()), live=True) == Ended("JobDeleted")
    assert look(None, live=True) == Ended("JobDeleted")


@pytest.mark.parametrize("code", [14, 137, 143])
def test_what_the_deletion_of_a_job_does_to_its_pod_is_the_jobs_deletion(code: int) -> None:
    dying = pod("Failed", state=exited(code), deleted=20)
    assert look(None, dying, live=True) == Ended("JobDeleted", exit_code=code)
    assert look(job(deleted=0), dying) == Ended("JobDeleted", exit_code=code)


def test_an_error_before_the_jobs_deletion_stays_an_error() -> None:
    found = end(None, pod("Failed", state=exited(10)), live=True)
    assert found.cause == "JobError"


def test_a_failed_job_without_its_pods_last_word_is_unclear() -> None:
    failed = job(("Failed", "BackoffLimitExceeded"))
    assert look(failed, pod(state=running())) == Unclear()
    assert look(failed) == Unclear()
    assert look(failed, live=True) == Ended("PodDeleted")
    assert look(job(("FailureTarget", "BackoffLimitExceeded")), live=True) == Ended("PodDeleted", stop=True)


def test_a_disrupted_pod_that_is_gone_was_drained_as_its_job_says() -> None:
    failed = replace(job(("Failed", "PodFailurePolicy")), failure_message="Pod x has condition DisruptionTarget")
    assert look(failed) == Unclear()
    assert look(failed, live=True) == Ended("Drained", message="Pod x has condition DisruptionTarget")
    assert look(job(("FailureTarget", "PodFailurePolicy")), live=True) == Ended("Drained", stop=True)
    evicted = pod("Failed", state=exited(137), disruption="TerminationByKubelet", reason="Evicted")
    found = end(failed, evicted)
    assert found.cause == "Evicted", "what is left of the pod says more"


def test_the_jobs_own_deadline_is_a_timeout() -> None:
    late = job(("FailureTarget", "DeadlineExceeded"))
    assert look(late, pod(state=running())) == Ended("Timeout", stop=True)
    assert look(late) == Ended("StartTimeout", stop=True)


def test_a_pod_that_is_being_deleted_may_still_say_how_it_ended() -> None:
    state = look(job(), pod(state=running(), deleted=20))
    assert state == Runs(stopping=True, check_at=NOW + timedelta(seconds=25))


def test_a_pod_long_past_its_grace_is_lost_with_its_node() -> None:
    lost = pod(state=running(), deleted=-5)
    assert look(job(), lost) == Unclear()  # old news, perhaps, of a pod that is gone
    assert look(job(), lost, live=True) == Ended("NodeLost", stop=True)
    evicted = pod(state=running(), deleted=-5, disruption="EvictionByEvictionAPI")  # its node may just be slow
    assert look(job(), evicted, live=True) == Ended("Drained", stop=True)


def test_a_pod_deleted_by_force_says_nothing_of_its_node() -> None:
    """A busy Job controller removes the pod's finalizer late."""
    forced = pod(state=running(), deleted=-6, grace=0)
    assert look(job(), forced, live=True) == Ended("PodDeleted", stop=True)


def test_a_pod_deleted_for_its_nodes_taint_is_given_up_early() -> None:
    lost = {"disruption": "DeletionByTaintManager", "grace": 300, "silent": True}
    assert isinstance(look(job(), pod(state=running(), deleted=290, **lost)), Runs)  # type: ignore[arg-type]
    given_up = pod(state=running(), deleted=284, **lost)  # type: ignore[arg-type]
    assert look(job(), given_up, live=True) == Ended("NodeLost", stop=True)


def test_a_taint_of_a_node_that_answers_leaves_the_pod_its_grace_period() -> None:
    """A controller's taint drains the node: the job may use its grace period to save what it has."""
    draining = pod(state=running(), deleted=1, disruption="DeletionByTaintManager", grace=300)
    assert isinstance(look(job(), draining, live=True), Runs)
    past = pod(state=running(), deleted=-5, disruption="DeletionByTaintManager", grace=300)
    assert look(job(), past, live=True) == Ended("Drained", stop=True)


def test_running_and_its_timeout() -> None:
    assert look(job(), pod(state=running(-5))) == Runs(stopping=False, check_at=None)
    bounds = Bounds(start=30, run=6)
    assert look(job(), pod(state=running(-35)), bounds=bounds) == Runs(False, NOW + timedelta(seconds=1))
    assert look(job(), pod(state=running(-36)), bounds=bounds) == Ended("Timeout", stop=True)


def test_the_start_timeout_does_not_count_while_it_runs() -> None:
    assert isinstance(look(job(created=-5000), pod(state=running())), Runs)


@pytest.mark.parametrize(
    ("seen", "reason", "final"),
    [
        (pod("Pending"), "PodPending", "StartTimeout"),
        (pod("Pending", state=waiting("ContainerCreating")), "PodPending", "StartTimeout"),
        (pod("Pending", unschedulable="no node"), "Unschedulable", "StartTimeout"),
        (pod("Pending", state=waiting("ErrImagePull")), "ImageUnavailable", "ImageUnavailable"),
        (pod("Pending", state=waiting("ImagePullBackOff")), "ImageUnavailable", "ImageUnavailable"),
        (pod("Pending", init=waiting("ImagePullBackOff")), "ImageUnavailable", "ImageUnavailable"),
        (pod("Pending", state=waiting("CreateContainerConfigError")), "ContainerConfigError", "ContainerConfigError"),
        (pod("Pending", state=waiting("RunContainerError")), "ContainerCannotRun", "ContainerCannotRun"),
    ],
)
def test_what_a_pod_waits_for(seen: Pod, reason: str, final: str) -> None:
    state = pends(job(), seen)
    assert (state.reason, state.check_at) == (reason, NOW + timedelta(seconds=590))
    found = end(job(created=-600), seen)
    assert (found.cause, found.stop) == (final, True)
    assert found.cause in CAUSES


@pytest.mark.parametrize("code", [14, 137, 143])
def test_what_the_pods_own_deadline_ended_has_timed_out(code: int) -> None:
    end = look(job(), pod("Failed", state=exited(code), reason="DeadlineExceeded"))
    assert end == Ended("Timeout", exit_code=code)


def failed_create(message: str) -> WarningEvent:
    event = read_event(
        {
            "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "1"},
            "involvedObject": {"kind": "Job", "name": "sj-1", "namespace": "ns", "uid": "job-uid"},
            "reason": "FailedCreate",
            "message": message,
        }
    )
    assert isinstance(event, WarningEvent)
    return event


def test_the_time_without_a_webhook_counts_against_no_start_timeout() -> None:
    away = failed_create('Internal error occurred: failed calling webhook "pods.example.org": connection refused')
    state = pends(job(created=-5000), events=(away,))
    assert (state.reason, state.check_at) == ("WebhookAway", NOW - timedelta(seconds=5000) + timedelta(days=1))
    state = pends(job(created=-5000), pod("Pending", created=-10), events=(away,))
    assert (state.reason, state.check_at) == ("PodPending", NOW + timedelta(seconds=590)), "from its pod's creation"
    found = end(job(created=-86400), events=(away,))
    assert (found.cause, found.stop) == ("StartTimeout", True)
    assert found.message == f"WebhookAway: {away.message}"
    denied = failed_create('admission webhook "pods.example.org" denied the request: no limits')
    found = end(job(created=-5000), events=(denied,))
    assert found.cause == "PodRejected"


@pytest.mark.parametrize(
    "words",
    [
        "dial tcp 10.0.0.7:443: connect: connection refused",
        "dial tcp 10.0.0.7:443: i/o timeout",
        "unexpected status from HEAD request to https://registry.example.org/v2/shop: 503 Service Unavailable",
        "429 Too Many Requests - Server message: toomanyrequests",
    ],
)
@pytest.mark.parametrize("state", ["ErrImagePull", "ImagePullBackOff"])
def test_a_registry_that_does_not_answer_is_waited_for_for_hours(state: str, words: str) -> None:
    waits = {"waiting": {"reason": state, "message": f'Back-off pulling image "shop:7": {state}: {words}'}}
    two_hours = pends(job(created=-7200), pod("Pending", state=waits))
    assert two_hours.reason == "RegistryAway"
    found = end(job(created=-3 * 3600), pod("Pending", state=waits))
    assert found.cause == "ImageUnavailable"


def test_an_image_name_that_is_none_cannot_heal() -> None:
    found = end(job(), pod("Pending", state=waiting("InvalidImageName")))
    assert (found.cause, found.stop) == ("ImageUnavailable", True)


def test_a_job_without_a_pod_waits_for_what_its_event_says() -> None:
    assert isinstance(look(job()), Pends)
    body = {
        "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "1"},
        "involvedObject": {"kind": "Job", "name": "sj-1", "namespace": "ns", "uid": "job-uid"},
        "reason": "FailedCreate",
        "message": "pods are forbidden: no service account",
    }
    event = read_event(body)
    assert event
    state = pends(job(), events=(event,))
    assert (state.reason, state.message) == ("PodRejected", "pods are forbidden: no service account")
    assert read_event({**body, "reason": "SuccessfulCreate"}) is None


def failed_mount(pod_uid: str) -> WarningEvent:
    body = {
        "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "1"},
        "involvedObject": {"kind": "Pod", "name": "sj-1-7", "namespace": "ns", "uid": pod_uid},
        "reason": "FailedMount",
        "message": 'secret "keys" not found',
    }
    event = read_event(body)
    assert isinstance(event, WarningEvent)
    return event


def test_a_volume_that_is_not_to_be_had_is_named_until_it_is() -> None:
    """The pod says no more than that its container is being created."""
    creating = pod("Pending", state=waiting("ContainerCreating"))
    state = pends(job(), creating, events=(failed_mount("pod-7"),))
    assert (state.reason, state.message) == ("ContainerConfigError", 'secret "keys" not found')
    for seen, event in ((replace(creating, mounted=True), failed_mount("pod-7")), (creating, failed_mount("other"))):
        state = pends(job(), seen, events=(event,))
        assert state.reason == "PodPending"
    assert isinstance(look(job(), pod(state=running()), events=(failed_mount("pod-7"),)), Runs)


def test_whether_anything_of_a_pod_can_run() -> None:
    assert has_ended(pod("Failed"), NOW)
    assert has_ended(pod(state=exited(1)), NOW)
    assert not has_ended(pod(state=running()), NOW)
    assert not has_ended(pod(state=running(), deleted=1), NOW)
    assert has_ended(pod(state=running(), deleted=-5), NOW)
