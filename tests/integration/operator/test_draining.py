"""Nodes are drained under running jobs: by evictions, which a PodDisruptionBudget may hold off, by a taint, and for
a pod of higher priority.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kubernetes
import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from tests.exclusive import exclusive
from tests.integration.operator.conftest import NODE_TO_STOP, ROOT, Cluster, OperatorProcess
from tests.waiting import eventually

UNHURRIED = {"terminationGracePeriodSeconds": 60}
"""A busy kubelet has this long to tell how the pod ended."""


ON_THE_NODE: dict[str, Any] = {
    "nodeSelector": {"kubernetes.io/hostname": NODE_TO_STOP},
    "tolerations": [{"key": "spoke.test/stops", "operator": "Exists"}],
}
"""Fields of pods that run on one node and on no other."""
MAINTENANCE = "spoke.test/maintenance"


def evict(cluster: Cluster, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster.core.create_namespaced_pod_eviction(pod, cluster.namespace, body)


def test_a_budget_holds_evictions_off_and_a_job_that_is_evicted_succeeds_and_is_not_charged(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    cluster.template("drained", "wait,wait,0", pod=UNHURRIED)
    name = cluster.submit("drained", retry={"budget": {"error": 1}, "backoffSeconds": 0.5})
    cluster.until(name, lambda status: status.get("outcome") == "Running")
    with the_page_s_budget(cluster, name), pytest.raises(ApiException) as refused:
        evict(cluster, cluster.pod_of(name, 1))
    assert refused.value.status == 429
    for number in (1, 2):
        cluster.until(name, lambda status, number=number: status.get("attempt") == number)
        evict(cluster, cluster.pod_of(name, number))
    status = cluster.until_final(name)
    assert status["outcome"] == "Succeeded"
    assert [item["cause"] for item in status["attempts"]] == ["Drained", "Drained", ""]
    assert (status.get("charged", {}), status["notCharged"]) == ({}, {"disruption": 2})


@contextmanager
def the_page_s_budget(cluster: Cluster, name: str) -> Iterator[None]:
    """docs/how-to/draining.md: more are demanded than there are, so none may go."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/draining.md").read_text(), re.S)
    (budget,) = [found for found in map(yaml.safe_load, blocks) if found["kind"] == "PodDisruptionBudget"]
    # The page's label is one of the PodTemplate. This one is on every pod of a job.
    budget["spec"]["selector"]["matchLabels"] = {"jobs.spoke.dev/spokejob": name}
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(budget))
    eventually(
        lambda: cluster.kubectl("get", "pdb", "long-jobs", "--output=jsonpath={.status.expectedPods}") == "1",
        "the budget counts the pod",
    )
    yield
    cluster.kubectl("delete", "pdb", "long-jobs")


@contextmanager
def taint(cluster: Cluster) -> Iterator[None]:
    """The node takes no pod, and what runs there without a toleration has to leave."""
    cluster.kubectl("taint", "nodes", NODE_TO_STOP, f"{MAINTENANCE}=:NoExecute")
    try:
        yield
    finally:
        cluster.kubectl("taint", "nodes", NODE_TO_STOP, f"{MAINTENANCE}-")


def drained_once(cluster: Cluster, name: str) -> None:
    """The job has succeeded in its second attempt, and the first is charged to nobody."""
    status = cluster.until_final(name, within=120)
    assert status["outcome"] == "Succeeded"
    assert [item["cause"] for item in status["attempts"]] == ["Drained", ""]
    assert (status.get("charged", {}), status["notCharged"]) == ({}, {"disruption": 1})


@pytest.mark.long
def test_a_taint_of_a_node_that_answers_drains_its_jobs(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.template("tainted", "wait,0", pod=ON_THE_NODE | UNHURRIED)
    name = cluster.submit("tainted")
    with exclusive(NODE_TO_STOP):
        cluster.until(name, lambda status: status.get("outcome") == "Running")
        cluster.pod_of(name, 1)
        with taint(cluster):
            status = cluster.until(name, lambda status: status.get("attempt") == 2 and status.get("cause"), within=120)
            assert status["attempts"][0]["cause"] == "Drained"
            assert status["cause"] == "NoNodeMatches", "it fits no other node, and waits for this one"
        drained_once(cluster, name)


@pytest.mark.long
def test_a_pod_of_higher_priority_drains_a_job_which_runs_again_after_it(apart: Cluster, own: OperatorProcess) -> None:
    node = apart.core.read_node(NODE_TO_STOP)
    most = int(parse_quantity(node.status.allocatable["memory"])) * 6 // 10 // (1 << 20)
    resources = {"resources": {"requests": {"memory": f"{most}Mi"}}}
    apart.template("preempted", "wait,0", pod=ON_THE_NODE | UNHURRIED, container=resources)
    own.start()
    name, urgent = apart.submit("preempted"), f"urgent-{apart.namespace}"
    scheduling = kubernetes.client.SchedulingV1Api(apart.api)
    with exclusive(NODE_TO_STOP):
        apart.until(name, lambda status: status.get("outcome") == "Running")
        apart.pod_of(name, 1)
        scheduling.create_priority_class({"metadata": {"name": urgent}, "value": 1000})
        try:
            apart.core.create_namespaced_pod(apart.namespace, preemptor(apart.image, urgent, resources))
            status = apart.until(
                name, lambda status: status.get("attempt") == 2 or status.get("nextAttemptAt"), within=120
            )
            assert status["attempts"][0]["cause"] == "Drained"
            apart.until(name, lambda status: status.get("cause") == "ClusterFull", within=120)
            apart.core.delete_namespaced_pod("urgent", apart.namespace, grace_period_seconds=0)
            drained_once(apart, name)
        finally:
            scheduling.delete_priority_class(urgent)


def preemptor(image: str, priority: str, resources: dict[str, Any]) -> dict[str, Any]:
    """A pod for whose requests the scheduler has to remove another."""
    container = {
        "name": "job",
        "image": image,
        "env": [{"name": "STANDIN", "value": "wait"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container | resources], "priorityClassName": priority, "securityContext": security}
    return {"metadata": {"name": "urgent"}, "spec": spec | ON_THE_NODE}
