from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.operator.core.objects import NOW, exited, job, pod, running, waiting

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs_operator.core.api_objects import FailedMount, Job, Pod
from spoke_jobs_operator.core.diagnose import Bounds, Ended, Event, Pends, Runs, Unclear, diagnose, has_ended
from spoke_jobs_operator.core.read_objects import read_event

BOUNDS = Bounds(start=600, run=None)


def look(
    attempt: Job | None, *pods: Pod, bounds: Bounds = BOUNDS, live: bool = False, events: tuple[Event, ...] = ()
) -> Ended | Runs | Pends | Unclear:
    return diagnose(attempt, pods, events, bounds, NOW, live=live)


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
        (pod("Failed", state=exited(13)), "Superseded"),
        (pod("Failed", state=exited(14, message=told("Interrupted"))), "Interrupted"),
        (pod("Failed", state=exited(14), deleted=20), "PodDeleted"),
        (pod("Failed", state=exited(14), disruption="EvictionByEvictionAPI", deleted=20), "Evicted"),
        (pod("Failed", state=exited(137), disruption="PreemptionByScheduler"), "Evicted"),
        (pod("Failed", state=exited(137), disruption="DeletionByTaintManager"), "NodeLost"),
        (pod("Failed", state=exited(1)), "JobExited"),
        (pod("Failed", state=exited(3, message=told("JobError"))), "JobExited"),
        (pod("Failed", state=exited(139)), "JobExited"),
        (pod("Failed", state=exited(137)), "Killed"),
        (pod("Failed", state=exited(143)), "Killed"),
        (pod("Failed", state=exited(137, "OOMKilled")), "OutOfMemory"),
        (pod("Failed", state=exited(128, "StartError", "no such file")), "ContainerCannotRun"),
        (pod("Failed", state=exited(137, "ContainerStatusUnknown")), "PodFailed"),
        (pod("Failed", reason="Evicted"), "Evicted"),
        (pod("Failed", reason="UnexpectedAdmissionError"), "PodFailed"),
        (pod("Failed", reason="DeadlineExceeded"), "Timeout"),
        (pod("Failed", disruption="DeletionByPodGC"), "NodeLost"),
    ],
)
def test_a_pods_end_names_its_cause(seen: Pod, cause: str) -> None:
    end = look(job(), seen)
    assert isinstance(end, Ended)
    assert end.cause == cause
    assert not end.stop
    assert cause == "" or cause in CAUSES


@pytest.mark.parametrize("code", [14, 143])
def test_what_the_jobs_own_deadline_ended_has_timed_out(code: int) -> None:
    """Nobody of ours was there to end it sooner."""
    failed = job(("Failed", "DeadlineExceeded"))
    end = look(failed, pod("Failed", state=exited(code), deleted=10))
    assert isinstance(end, Ended)
    assert end.cause == "Timeout"
    gone = look(failed, bounds=Bounds(start=600, run=60, ran=True), live=True)
    assert isinstance(gone, Ended)
    assert gone.cause == "Timeout", "its pod is gone, and was seen to run"


def test_the_termination_message_says_more() -> None:
    end = look(job(), pod("Failed", state=exited(11, message=told("InvalidPayload", for_good=True))))
    assert end == Ended("InvalidPayload", error_type="app.Broken", exit_code=11, for_good=True)


def test_an_unknown_cause_of_a_newer_release_is_kept_within_bounds() -> None:
    end = look(job(), pod("Failed", state=exited(10, message=told("X" * 100))))
    assert isinstance(end, Ended)
    assert end.cause == "X" * 40


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
    end = look(None, pod("Failed", state=exited(10)), live=True)
    assert isinstance(end, Ended)
    assert end.cause == "JobError"


def test_a_failed_job_without_its_pods_last_word_is_unclear() -> None:
    failed = job(("Failed", "BackoffLimitExceeded"))
    assert look(failed, pod(state=running())) == Unclear()
    assert look(failed) == Unclear()
    assert look(failed, live=True) == Ended("PodDeleted")
    assert look(job(("FailureTarget", "BackoffLimitExceeded")), live=True) == Ended("PodDeleted", stop=True)


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
    assert look(job(), evicted, live=True) == Ended("Evicted", stop=True)


def test_a_pod_deleted_for_its_nodes_taint_is_given_up_early() -> None:
    lost = {"disruption": "DeletionByTaintManager", "grace": 300}
    assert isinstance(look(job(), pod(state=running(), deleted=290, **lost)), Runs)  # type: ignore[arg-type]
    given_up = pod(state=running(), deleted=284, **lost)  # type: ignore[arg-type]
    assert look(job(), given_up, live=True) == Ended("NodeLost", stop=True)


def test_running_and_its_timeout() -> None:
    assert look(job(), pod(state=running(-5))) == Runs(stopping=False, check_at=None)
    bounds = Bounds(start=600, run=6)
    assert look(job(), pod(state=running(-5)), bounds=bounds) == Runs(False, NOW + timedelta(seconds=1))
    assert look(job(), pod(state=running(-6)), bounds=bounds) == Ended("Timeout", stop=True)


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
    state = look(job(), seen)
    assert isinstance(state, Pends)
    assert (state.reason, state.check_at) == (reason, NOW + timedelta(seconds=590))
    end = look(job(created=-600), seen)
    assert isinstance(end, Ended)
    assert (end.cause, end.stop) == (final, True)
    assert end.cause in CAUSES


def test_an_image_name_that_is_none_cannot_heal() -> None:
    end = look(job(), pod("Pending", state=waiting("InvalidImageName")))
    assert isinstance(end, Ended)
    assert (end.cause, end.stop) == ("ImageUnavailable", True)


def test_a_job_without_a_pod_waits_for_what_its_event_says() -> None:
    assert isinstance(look(job()), Pends)
    body = {
        "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "1"},
        "involvedObject": {"kind": "Job", "name": "sj-1", "namespace": "ns", "uid": "job-uid"},
        "reason": "FailedCreate",
        "message": "exceeded quota",
    }
    event = read_event(body)
    assert event
    state = look(job(), events=(event,))
    assert isinstance(state, Pends)
    assert (state.reason, state.message) == ("PodRejected", "exceeded quota")
    assert read_event({**body, "reason": "SuccessfulCreate"}) is None


def failed_mount(pod_uid: str) -> FailedMount:
    body = {
        "metadata": {"name": "e", "namespace": "ns", "resourceVersion": "1"},
        "involvedObject": {"kind": "Pod", "name": "sj-1-7", "namespace": "ns", "uid": pod_uid},
        "reason": "FailedMount",
        "message": 'secret "keys" not found',
    }
    event = read_event(body)
    assert isinstance(event, FailedMount)
    return event


def test_a_volume_that_is_not_to_be_had_is_named_until_it_is() -> None:
    """The pod says no more than that its container is being created."""
    creating = pod("Pending", state=waiting("ContainerCreating"))
    state = look(job(), creating, events=(failed_mount("pod-7"),))
    assert isinstance(state, Pends)
    assert (state.reason, state.message) == ("ContainerConfigError", 'secret "keys" not found')
    for seen, event in ((replace(creating, mounted=True), failed_mount("pod-7")), (creating, failed_mount("other"))):
        state = look(job(), seen, events=(event,))
        assert isinstance(state, Pends)
        assert state.reason == "PodPending"
    assert isinstance(look(job(), pod(state=running()), events=(failed_mount("pod-7"),)), Runs)


def test_whether_anything_of_a_pod_can_run() -> None:
    assert has_ended(pod("Failed"), NOW)
    assert has_ended(pod(state=exited(1)), NOW)
    assert not has_ended(pod(state=running()), NOW)
    assert not has_ended(pod(state=running(), deleted=1), NOW)
    assert has_ended(pod(state=running(), deleted=-5), NOW)
