"""How attempts end: by what their function, somebody, or the node did, and by what the cluster lacked for good."""

from __future__ import annotations

import time

import pytest
from tests.exclusive import exclusive
from tests.integration.operator.causes.lacking import NO_IMAGE, PRIVILEGED
from tests.integration.operator.causes.moments import (
    START_TIMEOUT_SECONDS,
    blocked_too_long,
    container_ended,
    container_waits,
    job_gone,
    of_moment,
    pod_gone,
    ran_too_long,
    started_too_late,
)
from tests.integration.operator.causes.scenes import Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage
from tests.integration.operator.conftest import NODE_TO_STOP, run_or_fail
from tests.waiting import patient

from spoke_jobs.contract.wait_reasons import WaitReason

pytestmark = pytest.mark.timeout(420)


def kill(stage: Stage, name: str) -> None:
    """SIGKILL from outside: from within its container the first process can't be killed."""
    pod = stage.pod(name)
    container = pod.status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    pid = stage.on_node("crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
    stage.on_node("kill", "-KILL", pid)


UNHURRIED = {"terminationGracePeriodSeconds": 60}
"""The container ends as soon as it is told to. Until then a busy kubelet has this long, or its pod counts as lost."""


def delete_pod(stage: Stage, name: str) -> None:
    stage.cluster.core.delete_namespaced_pod(stage.running(name).name, stage.cluster.namespace)


def delete_job(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.cluster.batch.delete_namespaced_job(f"{name}-1", stage.cluster.namespace, propagation_policy="Background")


def cancel(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.patch(name, {"cancel": True})
    stage.moments[name] = time.time()


def stop_node(stage: Stage, name: str) -> None:
    """The node is back when this ends: other tests may need it."""
    pod = stage.running(name)
    assert pod.body["spec"]["nodeName"] == NODE_TO_STOP
    with exclusive(NODE_TO_STOP):
        try:
            run_or_fail(["docker", "stop", "--time", "1", NODE_TO_STOP], stage.cluster.env)
            stage.moments[name] = time.time()
            stage.final(name)
        finally:
            run_or_fail(["docker", "start", NODE_TO_STOP], stage.cluster.env)
            stage.cluster.kubectl(
                "wait", "--for=condition=Ready", f"node/{NODE_TO_STOP}", f"--timeout={patient(300):.0f}s"
            )


NEVER_STARTS = {"startTimeoutSeconds": START_TIMEOUT_SECONDS}

SCENES = {
    "exit-code": Scene("JobExited", container_ended, "3", exit_code=3),
    "out-of-memory": Scene("OutOfMemory", container_ended, "eat-200",
                           container={"resources": {"limits": {"memory": "40Mi", "cpu": "50m"}}}),
    "ran-too-long": Scene("Timeout", ran_too_long, spec={"timeoutSeconds": 2} | NEVER_STARTS),
    "killed": Scene("Killed", container_ended, act=kill, exit_code=137),
    "pod-deleted": Scene("PodDeleted", pod_gone, act=delete_pod, pod=UNHURRIED),
    "job-deleted": Scene("JobDeleted", job_gone, act=delete_job, pod=UNHURRIED),
    "cancelled": Scene("Cancelled", of_moment, act=cancel, pod=UNHURRIED),
    "node-stopped": Scene("NodeLost", of_moment, act=stop_node, within=120,
                          pod={"nodeSelector": {"kubernetes.io/hostname": NODE_TO_STOP},
                               "tolerations": [{"key": "spoke.test/stops", "operator": "Exists"}]}),
    # What there is too late is in test_missing_at_first.py.
    "no-image": Scene("ImageUnavailable", started_too_late, image=NO_IMAGE, spec=NEVER_STARTS, says=(NO_IMAGE,)),
    "bad-image-name": Scene("ImageUnavailable", container_waits("InvalidImageName"), image="Not/An Image:1",
                            says=("Not/An Image:1",)),
    "not-admitted": Scene("PodRejected", started_too_late, container=PRIVILEGED, spec=NEVER_STARTS,
                          says=('violates PodSecurity "restricted:latest"',)),
    "no-room": Scene("StartTimeout", started_too_late, pod={"nodeSelector": {"spoke.test/no": "where"}},
                     spec=NEVER_STARTS, says=("0/3 nodes are available",),
                     waited_for=WaitReason.NO_NODE_MATCHES),
    "no-template": Scene("TemplateMissing", blocked_too_long, template=False, spec=NEVER_STARTS,
                         says=("no PodTemplate 'no-template'",)),
    "refused-by-the-api-server": Scene("TemplateInvalid", blocked_too_long, spec=NEVER_STARTS | {"resources": {
                                       "requests": {"cpu": "20m"}, "limits": {"cpu": "10m"}}}, says=("cpu limit",)),
    "no-entrypoint": Scene("ContainerCannotRun", container_ended, image="bare", pod={"securityContext": {
                           "runAsUser": 65532}}, says=("spoke-jobs",)),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)
