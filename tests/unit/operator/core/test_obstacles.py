"""What keeps a pod from running its job: each of its containers, its volumes, its scheduling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.core.kubelet import (
    CREATING,
    WAITS,
    container,
    ended,
    real_pod,
    runs,
    stuck,
    unscheduled,
    warning,
    warning_body,
)
from tests.unit.operator.core.objects import NOW, job

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.attempt_state import Bounds, Ended, Pends, Runs
from spoke_jobs_operator.core.diagnosis.diagnose import diagnose
from spoke_jobs_operator.core.diagnosis.obstacles import INIT_PATIENCE
from spoke_jobs_operator.core.objects.api_objects import Pod, WarningEvent
from spoke_jobs_operator.core.objects.read_objects import read_event
from spoke_jobs_operator.core.reconciling.status import attempt_pends, attempt_started

BOUNDS = Bounds(start=600, run=None)
PULL = 'Back-off pulling image "db:9": ErrImagePull: failed to pull image "db:9": not found'


def pending(pod: Pod, *events: WarningEvent) -> Pends:
    state = diagnose(job(), (pod,), events, BOUNDS, NOW, live=True)
    assert isinstance(state, Pends), state
    return state


def at_the_start_timeout(pod: Pod, *events: WarningEvent) -> Ended:
    state = diagnose(job(created=-600), (pod,), events, BOUNDS, NOW, live=True)
    assert isinstance(state, Ended), state
    assert state.stop
    return state


INIT_PULL = real_pod(
    container("job", WAITS), init=(container("wait-db", stuck("ImagePullBackOff", PULL), image="db:9"),)
)
SIDECAR_PULL = real_pod(
    container("job", WAITS),
    init=(container("proxy", stuck("ErrImageNeverPull", "not on the node"), image="proxy:2"),),
    sidecars=("proxy",),
)
CONFIG = real_pod(
    container("job", WAITS),
    init=(container("setup", stuck("CreateContainerConfigError", 'configmap "settings" not found')),),
)
CRASHING = real_pod(
    container("job", WAITS),
    init=(
        container(
            "proxy",
            stuck("CrashLoopBackOff", "back-off 10s"),
            last=ended(1, message="no port"),
            restartCount=3,
            started=False,
        ),
    ),
    sidecars=("proxy",),
)
GATED = real_pod(
    conditions=({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gates"},),
    spec={"nodeName": "", "schedulingGates": [{"name": "example.com/quota"}, {"name": "example.com/cost"}]},
)


@pytest.mark.parametrize(
    ("pod", "reason", "about", "words", "final"),
    [
        (INIT_PULL, "ImageUnavailable", "wait-db", '"db:9"', "ImageUnavailable"),
        (SIDECAR_PULL, "ImageUnavailable", "proxy", 'image "proxy:2": not on the node', "ImageUnavailable"),
        (CONFIG, "ContainerConfigError", "setup", 'configmap "settings" not found', "ContainerConfigError"),
        (CRASHING, "InitFailed", "proxy", "container 'proxy' exited with 1: no port", "InitFailed"),
        (GATED, "SchedulingGated", "example.com/quota, example.com/cost", "", "StartTimeout"),
        (
            unscheduled('0/3 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/3 nodes'),
            "VolumeClaimMissing",
            "data",
            'persistentvolumeclaim "data" not found',
            "VolumeClaimMissing",
        ),
        (
            unscheduled("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
            "NoNodeMatches",
            "node selector or affinity",
            "0/3 nodes",
            "StartTimeout",
        ),
    ],
)
def test_what_stands_in_the_way_is_named_and_stays_named(
    pod: Pod, reason: str, about: str, words: str, final: str
) -> None:
    state = pending(pod)
    assert (state.reason, state.object) == (reason, about)
    assert words in state.message
    end = at_the_start_timeout(pod)
    assert end.cause == final
    assert about in end.message or words in end.message, "the person reads why, also after the end"
    assert final != "StartTimeout" or end.message.startswith(f"{reason}: ")


@pytest.mark.parametrize(
    ("event", "reason", "about"),
    [
        (
            warning("FailedMount", 'MountVolume.SetUp failed for volume "c" : configmap "c" not found'),
            "ContainerConfigError",
            "",
        ),
        (
            warning("FailedMount", 'MountVolume.SetUp failed for volume "s" : secret "s" not found'),
            "ContainerConfigError",
            "",
        ),
        (
            warning("FailedMount", 'MountVolume.SetUp failed for volume "s" : references non-existent secret key: k'),
            "ContainerConfigError",
            "",
        ),
        (
            warning(
                "FailedMount",
                'Unable to attach or mount volumes: error processing PVC: persistentvolumeclaim "data" not found',
            ),
            "VolumeClaimMissing",
            "data",
        ),
        (
            warning("FailedMount", "Unable to attach or mount volumes: timed out waiting for the condition"),
            "VolumeNotMounted",
            "",
        ),
        (warning("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1"'), "VolumeNotMounted", ""),
        (warning("FailedCreatePodSandBox", "plugin type=bridge failed: no IP addresses"), "SandboxFailed", ""),
        (warning("FailedPrepareDynamicResources", "driver gpu is not registered"), "SandboxFailed", ""),
    ],
)
def test_what_only_an_event_says_is_named(event: WarningEvent, reason: str, about: str) -> None:
    """The pod says no more than that its containers are being created."""
    creating = real_pod(container("job", CREATING), init=(container("setup", WAITS),))
    state = pending(creating, event)
    assert (state.reason, state.object, state.message) == (reason, about, event.message)
    end = at_the_start_timeout(creating, event)
    assert event.message in end.message
    ready = real_pod(container("job", CREATING), conditions=({"type": "PodReadyToStartContainers", "status": "True"},))
    assert pending(ready, event).reason == "PodPending", "the obstacle is gone"


def test_a_pull_secret_that_is_missing_is_named_with_the_image() -> None:
    """Also at the end, and whatever the kubelet said of volumes before. Alone it keeps no container from starting."""
    mounts = warning("FailedMount", "timed out")
    no_secret = warning(
        "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (reg-login); attempting to pull the image may not succeed.",
    )
    mounted = ({"type": "PodReadyToStartContainers", "status": "True"},)
    pulls = real_pod(container("job", stuck("ImagePullBackOff", PULL), image="db:9"), conditions=mounted)
    said = f"Unable to retrieve some image pull secrets (reg-login); {PULL}"
    assert pending(pulls, mounts, no_secret).message == said
    assert at_the_start_timeout(pulls, mounts, no_secret).message == said
    assert pending(pulls, mounts).message == PULL
    creating = real_pod(container("job", CREATING))
    assert pending(creating, no_secret).reason == "PodPending"
    assert pending(creating, mounts, no_secret).reason == "VolumeNotMounted"


@pytest.mark.parametrize("reason", ["BackOff", "Failed", "FailedScheduling"])
def test_events_that_repeat_what_the_pod_says_are_not_read(reason: str) -> None:
    body = {"metadata": {}, "involvedObject": {"kind": "Pod", "uid": "pod-uid"}, "reason": reason, "message": "m"}
    assert read_event(body) is None


def test_an_init_container_that_hangs_is_named_with_its_age() -> None:
    pod = real_pod(
        container("job", WAITS),
        init=(container("done", ended(0)), container("wait-db", runs(-60)), container("next", WAITS)),
    )
    state = pending(pod)
    assert (state.reason, state.object) == ("InitRunning", "wait-db")
    assert state.since == NOW - timedelta(seconds=60)
    end = at_the_start_timeout(pod)
    assert end.cause == "StartTimeout"
    assert end.container == "wait-db"
    assert "'wait-db' has run since 11:59:00 UTC" in end.message


def test_an_init_container_that_has_just_begun_is_not_worth_a_write() -> None:
    pod = real_pod(container("job", WAITS), init=(container("wait-db", runs(-4)),))
    state = pending(pod)
    assert state.reason == "PodPending"
    assert state.check_at == NOW - timedelta(seconds=4) + INIT_PATIENCE, "it is looked at again"


def test_a_sidecar_that_has_just_ended_again_is_named() -> None:
    """The pod's own containers are not restarted, so the kubelet may show the end itself and not that it backs off."""
    proxy = container("proxy", ended(4), restartCount=2, started=False)
    state = pending(real_pod(container("job", WAITS), init=(proxy,), sidecars=("proxy",)))
    assert (state.reason, state.object) == ("InitFailed", "proxy")
    assert "container 'proxy' exited with 4" in state.message


def test_a_sidecar_that_does_not_become_ready_is_what_the_job_waits_for() -> None:
    proxy = container("proxy", runs(-60), started=False)
    assert pending(real_pod(container("job", WAITS), init=(proxy,), sidecars=("proxy",))).object == "proxy"
    proxy = container("proxy", runs(-60), started=True)
    state = pending(real_pod(container("job", CREATING), init=(proxy,), sidecars=("proxy",)))
    assert state.reason == "PodPending"


def starting_sidecar(state: dict[str, Any] | None = None, **fields: Any) -> Pod:
    proxy = container("proxy", state or runs(-60), started=False, **fields)
    return real_pod(container("job", WAITS), init=(proxy,), sidecars=("proxy",))


REFUSED = "Startup probe failed: dial tcp 10.0.0.7:80: connect: connection refused"


def test_why_a_startup_probe_fails_is_said_and_stays_said() -> None:
    """The pod only shows that the sidecar runs."""
    fails = warning("Unhealthy", REFUSED, sidecar="proxy")
    state = pending(starting_sidecar(), fails)
    assert (state.reason, state.object, state.message) == ("SidecarStarting", "proxy", REFUSED)
    end = at_the_start_timeout(starting_sidecar(), fails)
    assert (end.cause, end.container) == ("StartTimeout", "proxy")
    assert "sidecar 'proxy' has run since 11:59:00 UTC" in end.message
    assert end.message.endswith(REFUSED)
    silent = warning("Unhealthy", "Startup probe failed: ", sidecar="proxy")
    assert pending(starting_sidecar(), silent).message == "Startup probe failed", "its command printed nothing"
    another = warning("Unhealthy", REFUSED, sidecar="other")
    assert pending(starting_sidecar(), another).message == ""


def test_the_first_word_of_the_kubelet_about_a_sidecar_is_written_and_no_later_one() -> None:
    """It may come after the status says that the job waits for the sidecar; then it repeats with each probe."""

    def written(old: SpokeJobStatus, said: str) -> SpokeJobStatus:
        since = NOW - timedelta(seconds=60)
        return attempt_pends(old, Wait(WaitReason.SIDECAR_STARTING, object="proxy", since=since, detail=said), NOW)

    def text(status: SpokeJobStatus) -> str:
        return next(item.message for item in status.conditions if item.type == "Running")

    started = attempt_started(SpokeJobStatus(), 1, "sj-1", "", NOW, NOW)
    silent = written(started, "")
    assert text(silent).endswith("its startup probe has not succeeded")
    told = written(silent, REFUSED)
    assert text(told).endswith(f"has not succeeded: {REFUSED}")
    assert written(told, "Startup probe failed: HTTP probe failed with statuscode: 503") == told
    assert written(told, "") == told, "Kubernetes deletes Events after a time"


@pytest.mark.parametrize(
    ("state", "last"),
    [(ended(137), None), (stuck("CrashLoopBackOff"), ended(137)), (stuck("PostStartHookError"), ended(137))],
)
@pytest.mark.parametrize(("reason", "said"), [("FailedPostStartHook", "PostStartHook failed"), ("Unhealthy", REFUSED)])
def test_why_the_kubelet_restarts_a_sidecar_is_said(
    state: dict[str, Any], last: dict[str, Any] | None, reason: str, said: str
) -> None:
    pod = starting_sidecar(state, last=last)
    found = pending(pod, warning(reason, said, sidecar="proxy"))
    assert (found.reason, found.object) == ("InitFailed", "proxy")
    assert found.message == f"container 'proxy' exited with 137; {said}; the kubelet restarts it"


@pytest.mark.parametrize(
    ("reason", "message", "about"),
    [
        ("Unhealthy", "Readiness probe failed: connection refused", "spec.initContainers{proxy}"),
        ("Unhealthy", "Liveness probe failed: connection refused", "spec.initContainers{proxy}"),
        ("Unhealthy", REFUSED, "spec.containers{job}"),
        ("FailedPostStartHook", "PostStartHook failed", "spec.containers{shipper}"),
    ],
)
def test_events_of_containers_that_have_started_or_that_nobody_waits_for_are_not_read(
    reason: str, message: str, about: str
) -> None:
    """They may come every few seconds for as long as the job runs."""
    assert read_event(warning_body(reason, message, field_path=about)) is None


def test_a_container_beside_the_jobs_keeps_nothing_from_running() -> None:
    beside = container("shipper", stuck("InvalidImageName", "couldn't parse"), image="Shipper:1")
    state = pending(real_pod(container("job", CREATING), beside))
    assert (state.reason, state.object) == ("ImageUnavailable", "shipper")
    assert isinstance(diagnose(job(), (real_pod(container("job", runs()), beside),), (), BOUNDS, NOW, live=True), Runs)
    hopeless = container("setup", stuck("InvalidImageName", "couldn't parse"), image="Setup:1")
    end = diagnose(job(), (real_pod(container("job", WAITS), init=(hopeless,)),), (), BOUNDS, NOW, live=True)
    assert isinstance(end, Ended)
    assert (end.cause, end.container) == ("ImageUnavailable", "setup")
    assert "container 'setup': " in end.message


def test_the_jobs_own_container_is_not_named() -> None:
    state = pending(real_pod(container("job", stuck("ErrImagePull", PULL), image="db:9")))
    assert (state.object, state.message) == ("", PULL)


def test_readiness_gates_and_debug_containers_keep_no_job_from_running() -> None:
    pod = real_pod(
        container("job", runs()),
        ephemeral=(container("debugger", stuck("ErrImagePull", "x")),),
        phase="Running",
        conditions=({"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},),
        spec={"readinessGates": [{"conditionType": "example.com/lb"}]},
    )
    assert isinstance(diagnose(job(), (pod,), (), BOUNDS, NOW, live=True), Runs)
