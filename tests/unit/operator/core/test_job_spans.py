"""The spans that a change of a SpokeJob's status ends: when each began, and what it says."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.operator.core.objects import NOW, exited, pod, running, stamp

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.retry import TryAgain
from spoke_jobs_operator.core.diagnosis.diagnose import Ended
from spoke_jobs_operator.core.objects.api_objects import Pod
from spoke_jobs_operator.core.objects.read_objects import read_pod
from spoke_jobs_operator.core.reconciling import status
from spoke_jobs_operator.core.reporting.job_spans import job_spans

CREATED = NOW - timedelta(seconds=100)
EMPTY = SpokeJobStatus()


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def spokejob(of: SpokeJobStatus) -> SpokeJob:
    spec = {"uid": "12345678-1234-4234-8234-123456789abc", "requestId": 7, "jobType": "report", "run": 2}
    metadata = {"name": "sj", "namespace": "ns", "uid": "sj-uid", "resourceVersion": "1"}
    read = SpokeJob.from_object({"metadata": metadata | {"creationTimestamp": CREATED.isoformat()}, "spec": spec})
    return read.model_copy(update={"status": of})


def started(old: SpokeJobStatus, seconds: float) -> SpokeJobStatus:
    number = old.attempt + 1
    return status.attempt_started(old, number, f"sj-{number}", "t/1", at(seconds), at(seconds))


def assigned(seconds: float) -> SpokeJobStatus:
    return status.attempt_started(EMPTY, 1, "default-standby-1", "t/1", at(seconds), at(seconds), lane="standby")


def failed(old: SpokeJobStatus, seconds: float, cause: str = "JobError") -> SpokeJobStatus:
    return status.attempt_failed(old, Ended(cause=cause), None, TryAgain(4.0), at(seconds), 7)


def shown(old: SpokeJobStatus, new: SpokeJobStatus, *pods: Pod) -> list[tuple[str, float, float, str]]:
    """Names, beginnings and ends in seconds, and causes."""
    return [
        (str(span.name), (span.begins - NOW).total_seconds(), (span.ends - NOW).total_seconds(), span.cause)
        for span in job_spans(spokejob(old), new, pods)
    ]


def scheduled(state: dict[str, Any], seconds: float | None = -8) -> Pod:
    """A pod that got its node at that time."""
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(seconds or 0)}
    labels = {"jobs.spoke.dev/spokejob": "sj", "jobs.spoke.dev/attempt": "1"}
    return read_pod(
        {
            "metadata": {"name": "sj-1-x", "namespace": "ns", "labels": labels},
            "spec": {"nodeName": "node-1"},
            "status": {
                "conditions": [] if seconds is None else [condition],
                "containerStatuses": [{"name": "job", "state": state}],
            },
        }
    )


def ended(began: float, over: float, code: int = 0) -> dict[str, Any]:
    state = exited(code)
    state["terminated"] |= {"startedAt": stamp(began), "finishedAt": stamp(over)}
    return state


def test_an_admission_takes_from_the_creation_to_the_first_job() -> None:
    assert shown(EMPTY, started(EMPTY, -10)) == [("admit", -100, -10, "")]


def test_the_wait_between_attempts_is_no_part_of_the_next_admission() -> None:
    waits = failed(started(EMPTY, -50), -40)
    assert waits.next_attempt_at == at(-36)
    assert shown(waits, started(waits, -30)) == [("admit", -36, -30, "")]


def test_an_attempt_that_has_ended_shows_its_pod_s_way() -> None:
    runs = started(EMPTY, -10)
    assert shown(runs, failed(runs, 2), scheduled(ended(-5, 1, 1))) == [
        ("schedule pod", -10, -8, ""),
        ("start pod", -8, -5, ""),
        ("run pod", -5, 1, "JobError"),
    ]


def test_a_container_that_the_kubelet_says_still_runs_ends_with_its_attempt() -> None:
    """The attempt was stopped, or its node is lost."""
    runs = started(EMPTY, -10)
    assert shown(runs, failed(runs, 2, "NodeLost"), scheduled(running(-5)))[-1] == ("run pod", -5, 2, "NodeLost")


@pytest.mark.parametrize(
    ("pods", "names"),
    [
        ((), []),
        ((scheduled({"waiting": {"reason": "ErrImagePull"}}),), ["schedule pod"]),
        ((scheduled(ended(-5, 1), None),), ["run pod"]),
        ((scheduled(exited(1)),), ["schedule pod"]),
        ((pod(),), []),
    ],
    ids=["no pod", "it never ran", "no time of its schedule", "no times of its container", "no container"],
)
def test_what_the_pod_does_not_say_is_left_out(pods: tuple[Pod, ...], names: list[str]) -> None:
    runs = started(EMPTY, -10)
    assert [name for name, *_ in shown(runs, failed(runs, 2, "StartTimeout"), *pods)] == names


@pytest.mark.parametrize(
    ("state", "end"), [(ended(-290, 1), 1), (running(-290), 2)], ids=["ended", "still runs, says the kubelet"]
)
def test_an_attempt_in_a_standby_pod_shows_what_came_after_its_assignment(state: dict[str, Any], end: float) -> None:
    """The pod got its node, and its container started, before there was an attempt."""
    runs = assigned(-10)
    assert shown(EMPTY, runs) == [("admit", -100, -10, "")]
    assert shown(runs, failed(runs, 2), scheduled(state, -300)) == [("run pod", -10, end, "JobError")]


def test_a_container_that_never_ran_began_in_no_year() -> None:
    """The kubelet writes 1970."""
    runs = started(EMPTY, -10)
    state = exited(128)
    state["terminated"] |= {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z"}
    assert [name for name, *_ in shown(runs, failed(runs, 2), scheduled(state))] == ["schedule pod"]


def test_clocks_that_differ_make_no_span_that_ends_before_it_begins() -> None:
    runs = started(EMPTY, -4)
    assert shown(runs, failed(runs, 2), scheduled(ended(-9, -10))) == [
        ("schedule pod", -4, -4, ""),
        ("start pod", -8, -8, ""),
        ("run pod", -9, -9, "JobError"),
    ]


def test_a_pod_of_another_attempt_says_nothing_of_this_one() -> None:
    waits = failed(started(EMPTY, -50), -40)
    runs = started(waits, -30)
    assert shown(runs, failed(runs, -20), scheduled(ended(-5, 1))) == []


def test_a_status_that_says_the_same_ends_no_span() -> None:
    over = failed(started(EMPTY, -10), 2)
    assert shown(over, over, scheduled(ended(-5, 1))) == []


def test_a_span_says_which_attempt_of_which_job_it_is_of() -> None:
    runs = started(EMPTY, -10)
    spans = job_spans(spokejob(runs), failed(runs, 2), [scheduled(ended(-5, 1))])
    assert spans[0].attributes == {
        "messaging.system": "spoke_jobs",
        "messaging.destination.name": "report",
        "messaging.message.id": "12345678-1234-4234-8234-123456789abc",
        "messaging.spoke_jobs.job_id": 7,
        "messaging.spoke_jobs.run": 2,
        "messaging.spoke_jobs.attempt": 1,
        "k8s.namespace.name": "ns",
        "k8s.job.name": "sj-1",
        "k8s.pod.name": "sj-1-x",
        "k8s.node.name": "node-1",
    }
