"""What somebody did: killed, deleted, evicted, cancelled."""

from __future__ import annotations

import time

import pytest
from tests.integration.operator.causes.moments import container_ended, job_gone, of_moment, pod_gone
from tests.integration.operator.causes.scenes import Act, Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage

pytestmark = pytest.mark.timeout(420)


def kill(stage: Stage, name: str) -> None:
    """SIGKILL from outside: from within its container the first process can't be killed."""
    pod = stage.pod(name)
    container = pod.status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    pid = stage.on_node("crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
    stage.on_node("kill", "-KILL", pid)


UNHURRIED = {"terminationGracePeriodSeconds": 60}
"""The container ends as soon as it is told to. Until then a busy kubelet has this long, or its pod counts as lost."""


def delete_pod(grace: int | None = None) -> Act:
    def act(stage: Stage, name: str) -> None:
        pod = stage.running(name).name
        stage.cluster.core.delete_namespaced_pod(pod, stage.cluster.namespace, grace_period_seconds=grace)

    return act


def evict(stage: Stage, name: str) -> None:
    pod = stage.running(name).name
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    stage.cluster.core.create_namespaced_pod_eviction(pod, stage.cluster.namespace, body)


def delete_job(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.cluster.batch.delete_namespaced_job(f"{name}-1", stage.cluster.namespace, propagation_policy="Background")


def cancel(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.patch(name, {"cancel": True})
    stage.moments[name] = time.time()


SCENES = {
    "killed": Scene("Killed", container_ended, act=kill, exit_code=137),
    "pod-deleted": Scene("PodDeleted", pod_gone, act=delete_pod(), pod=UNHURRIED),
    "pod-deleted-by-force": Scene("PodDeleted", pod_gone, act=delete_pod(0)),
    "drained": Scene("Drained", pod_gone, act=evict, pod=UNHURRIED),
    "job-deleted": Scene("JobDeleted", job_gone, act=delete_job, pod=UNHURRIED),
    "cancelled": Scene("Cancelled", of_moment, act=cancel, pod=UNHURRIED),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)
