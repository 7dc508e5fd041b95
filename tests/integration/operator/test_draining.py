"""Nodes are drained under running jobs: by the Eviction API, which a PodDisruptionBudget may hold off."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from tests.integration.operator.conftest import ROOT, Cluster, OperatorProcess, limited_kubeconfig
from tests.waiting import eventually

UNHURRIED = {"terminationGracePeriodSeconds": 60}
"""A busy kubelet has this long to tell how the pod ended."""


def evict(cluster: Cluster, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster.core.create_namespaced_pod_eviction(pod, cluster.namespace, body)


def test_a_job_that_is_evicted_three_times_succeeds_and_is_not_charged(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    cluster.template("drained", "wait,wait,wait,0", pod=UNHURRIED)
    name = cluster.submit("drained")
    for number in (1, 2, 3):
        cluster.until(name, lambda status, number=number: status.get("attempt") == number)
        evict(cluster, cluster.pod_of(name, number))
    status = cluster.until_final(name)
    assert status["outcome"] == "Succeeded"
    assert [item["cause"] for item in status["attempts"]] == ["Drained", "Drained", "Drained", ""]
    assert (status.get("charged", {}), status["notCharged"]) == ({}, {"disruption": 3})


def test_an_operator_that_was_away_while_a_pod_was_evicted_and_went_charges_nothing(
    apart: Cluster, tmp_path: Path
) -> None:
    """The drain may evict the operator, too. Then nobody sees the pod's last state."""
    operator = OperatorProcess(limited_kubeconfig(apart, tmp_path), apart.namespace, tmp_path / "operator.log")
    apart.template("drained", "wait,0", pod=UNHURRIED)
    operator.start()
    name = apart.submit("drained")
    apart.until(name, lambda status: status.get("outcome") == "Running")
    pod = apart.pod_of(name, 1)
    assert operator.stop() == 0
    evict(apart, pod)
    eventually(lambda: not apart.core.list_namespaced_pod(apart.namespace).items, "the pod is gone")
    operator.start()
    try:
        status = apart.until_final(name)
    finally:
        operator.stop()
        print((tmp_path / "operator.log").read_text())
    assert status["outcome"] == "Succeeded"
    assert [item["cause"] for item in status["attempts"]] == ["Drained", ""]
    assert "DisruptionTarget" in status["attempts"][0]["message"]
    assert (status.get("charged", {}), status["notCharged"]) == ({}, {"disruption": 1})


def test_a_budget_as_the_page_on_draining_shows_it_holds_an_eviction_off(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    """docs/how-to/draining.md: more are demanded than there are, so none may go."""
    cluster.template("long", "wait", pod=UNHURRIED)
    name = cluster.submit("long")
    cluster.until(name, lambda status: status.get("outcome") == "Running")
    pod = cluster.pod_of(name, 1)
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/draining.md").read_text(), re.S)
    (budget,) = [found for found in map(yaml.safe_load, blocks) if found["kind"] == "PodDisruptionBudget"]
    # The page's label is one of the PodTemplate. This one is on every pod of a job.
    budget["spec"]["selector"]["matchLabels"] = {"jobs.spoke.dev/spokejob": name}
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(budget))
    eventually(
        lambda: cluster.kubectl("get", "pdb", "long-jobs", "--output=jsonpath={.status.expectedPods}") == "1",
        "the budget counts the pod",
    )
    with pytest.raises(ApiException) as refused:
        evict(cluster, pod)
    assert refused.value.status == 429
    cluster.kubectl("delete", "pdb", "long-jobs")
