"""How a pod with several containers ended."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.core.kubelet import CREATING, WAITS, container, ended, real_pod, runs, stuck

from spoke_jobs.contract.causes import CAUSES, Cause, CauseClass, cause_class
from spoke_jobs.contract.retry import RetryPolicy, TryAgain, after_failure, is_charged
from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs.errors import DatabaseRefused, DatabaseUnreachable
from spoke_jobs_operator.core.diagnosis.attempt_state import Ended
from spoke_jobs_operator.core.diagnosis.pod_end import end_of
from spoke_jobs_operator.core.objects.api_objects import Pod

EVICTED = (
    {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "low on memory"},
)


def ended_as(pod: Pod) -> Ended:
    """How the pod has ended."""
    end = end_of(pod)
    assert end is not None
    return end


def test_an_init_container_that_failed_is_named_with_its_exit_code_and_message() -> None:
    pod = real_pod(
        container("job", WAITS),
        init=(container("first", ended(0)), container("migrate", ended(3, message="no\n  database"))),
        phase="Failed",
    )
    assert end_of(pod) == Ended(
        "InitFailed", exit_code=3, message="container 'migrate' exited with 3: no database", container="migrate"
    )


def test_an_init_container_that_ran_out_of_memory_is_not_the_jobs_memory() -> None:
    pod = real_pod(container("job", WAITS), init=(container("migrate", ended(137, "OOMKilled")),), phase="Failed")
    end = ended_as(pod)
    assert (end.cause, end.message) == ("InitFailed", "container 'migrate' exited with 137 (OOMKilled)")


def test_an_init_container_whose_command_is_missing_cannot_run() -> None:
    pod = real_pod(
        container("job", WAITS), init=(container("x", ended(128, "StartError", "no such file")),), phase="Failed"
    )
    end = ended_as(pod)
    assert (end.cause, end.container) == ("ContainerCannotRun", "x")


def test_what_ended_the_whole_pod_is_not_the_init_containers_fault() -> None:
    stopped = (container("wait", ended(143)),)
    evicted = ended_as(real_pod(container("job", WAITS), init=stopped, phase="Failed", conditions=EVICTED))
    assert evicted.cause != "InitFailed"
    assert "low on memory" in evicted.message
    deleted = ended_as(real_pod(container("job", WAITS), init=stopped, phase="Failed", deleted=5))
    assert deleted.cause == "PodDeleted"


@pytest.mark.parametrize(
    "other",
    [runs(), stuck("ImagePullBackOff"), stuck("CrashLoopBackOff"), ended(1)],
    ids=("runs", "pulls", "crashes", "failed"),
)
@pytest.mark.parametrize(("code", "cause"), [(0, ""), (10, "JobError"), (1, "JobExited")])
def test_a_job_whose_container_has_ended_has_ended_whatever_the_others_do(
    other: dict[str, object], code: int, cause: str
) -> None:
    for pod in (
        real_pod(container("job", ended(code)), container("shipper", other), phase="Running"),
        real_pod(
            container("job", ended(code)), init=(container("proxy", other),), sidecars=("proxy",), phase="Running"
        ),
        real_pod(container("job", ended(code)), ephemeral=(container("debug", other),), phase="Running"),
    ):
        end = ended_as(pod)
        assert (end.cause, end.exit_code) == (cause, code)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu"),
        ("OutOfpods", "Pod was rejected: Node didn't have enough resource: pods"),
        ("OutOfexample.com/gpu", "Pod was rejected: Node didn't have enough resource: example.com/gpu"),
        ("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to no healthy devices present"),
        ("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed"),
        ("TopologyAffinityError", "Pod was rejected: Resources cannot be allocated with Topology locality"),
        ("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. "),
    ],
)
@pytest.mark.parametrize("containers", [(), (container("job", CREATING),)], ids=("none", "waiting"))
def test_a_pod_that_its_node_refused_says_why_and_is_not_charged(
    reason: str, message: str, containers: tuple[dict[str, Any], ...]
) -> None:
    """A full cluster and a restarting node fail nobody."""
    end = ended_as(real_pod(*containers, phase="Failed", reason=reason, message=message))
    assert end == Ended("NodeRefused", message=f"{reason}: {message}")
    assert not is_charged(cause_class(end.cause))
    assert isinstance(after_failure(RetryPolicy(), {CauseClass.INFRASTRUCTURE: 2}, end.cause), TryAgain)


@pytest.mark.parametrize("reason", ["SysctlForbidden", "AppArmor", "PodOSNotSupported", "PodFeatureUnsupported"])
def test_a_pod_that_every_node_would_refuse_is_charged(reason: str) -> None:
    end = end_of(real_pod(phase="Failed", reason=reason, message="Pod was rejected: it asks for too much"))
    assert end == Ended("PodFailed", message=f"{reason}: Pod was rejected: it asks for too much")


@pytest.mark.parametrize(("code", "reason"), [(137, "ContainerStatusUnknown"), (255, "Unknown")])
def test_a_container_that_its_node_lost_in_a_restart_is_not_charged(code: int, reason: str) -> None:
    lost = ended(code, reason, "The container could not be located when the pod was terminated")
    for pod in (
        real_pod(container("job", lost), phase="Failed"),
        real_pod(container("job", WAITS), init=(container("migrate", lost),), phase="Failed"),
    ):
        end = ended_as(pod)
        assert end.cause == "NodeLost"
        assert "could not be located" in end.message


def test_a_database_that_refuses_the_password_is_told_from_one_that_is_away() -> None:
    """Both are the same cause, and only one of them is repaired in a Secret."""

    def end_with(error: type[Exception]) -> Ended | None:
        sent = TerminationMessage(Cause.DATABASE_UNREACHABLE, error.__name__).encode().decode()
        return end_of(real_pod(container("job", ended(10, message=sent)), phase="Failed"))

    refused, away = end_with(DatabaseRefused), end_with(DatabaseUnreachable)
    assert refused is not None
    assert away is not None
    assert refused.cause == away.cause == "DatabaseUnreachable"
    assert "password" in refused.message
    assert away.message == ""


@pytest.mark.parametrize("code", [10, 11])
def test_what_a_container_writes_that_is_no_message_of_ours_is_not_passed_on(code: int) -> None:
    end = ended_as(real_pod(container("job", ended(code, message="password=hunter2")), phase="Failed"))
    assert end.message == "The container's termination message is not one of spoke-jobs."


def test_a_sidecar_alone_ends_nothing() -> None:
    pod: Pod = real_pod(
        container("job", runs()), init=(container("proxy", ended(1)),), sidecars=("proxy",), phase="Running"
    )
    assert end_of(pod) is None


REPORTED = {
    "JobError", "JobExited", "InvalidResult", "WorkerLost", "Interrupted", "Timeout", "UnknownJobType",
    "InvalidPayload", "NoRow", "DatabaseUnreachable", "BadSetup", "RetryLater", "StartPaused", "Discarded", "Cancelled",
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_a_process_reports_no_cause_that_only_the_platform_knows(cause: str) -> None:
    """A lost node is not charged to the job, and an attempt that ran out of memory gets more the next time."""
    message = TerminationMessage(cause, "app.Broken", for_good=True).encode().decode()
    for code in (10, 11):
        end = ended_as(real_pod(container("job", ended(code, message=message)), phase="Failed"))
        assert (end.error_type, end.for_good) == ("app.Broken", True)
        assert end.cause == (cause if cause in REPORTED else "JobError")
        assert (cause in end.message) is (cause not in REPORTED)
    end = ended_as(real_pod(container("job", ended(14, message=message)), phase="Failed"))
    assert end.cause == (cause if cause in REPORTED else "Interrupted")


def test_a_cause_of_a_later_release_is_passed_on_and_is_infrastructures() -> None:
    message = TerminationMessage("JobErrorOfNextRelease").encode().decode()
    end = ended_as(real_pod(container("job", ended(10, message=message)), phase="Failed"))
    assert end.cause == "JobErrorOfNextRelease"
    assert cause_class(end.cause) is CauseClass.INFRASTRUCTURE
