"""A cluster without room, and a namespace without its database: nobody fails, few pods wait, and all run in the end."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes.utils.quantity import parse_quantity
from tests.integration.operator.conftest import Cluster, Object, OperatorProcess
from tests.waiting import eventually

MEBIBYTE = 1 << 20


class Watch:
    """What is seen of a namespace again and again."""

    def __init__(self) -> None:
        self.most_pending = 0
        self.most_without_node = 0
        self.reasons: set[str] = set()


@contextmanager
def watched(cluster: Cluster) -> Iterator[Watch]:
    """Look at the namespace's pods and SpokeJobs until the end of the block."""
    seen, over = Watch(), threading.Event()

    def look() -> None:
        pending = {"field_selector": "status.phase=Pending", "_preload_content": False}  # JSON is quicker to read
        while not over.wait(0.2):
            pods = json.loads(cluster.core.list_namespaced_pod(cluster.namespace, **pending).data)["items"]
            seen.most_pending = max(seen.most_pending, len(pods))
            seen.most_without_node = max(seen.most_without_node, sum("nodeName" not in pod["spec"] for pod in pods))
            seen.reasons |= {item.get("status", {}).get("cause", "") for item in cluster.spokejobs()}

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def memory_of_a_worker(cluster: Cluster) -> int:
    """The smallest allocatable memory of the nodes that take pods, in MiB."""
    nodes = [node for node in cluster.core.list_node().items if not node.spec.taints]
    return min(int(parse_quantity(node.status.allocatable["memory"])) for node in nodes) // MEBIBYTE


def requests(mebibytes: int) -> dict[str, Any]:
    return {"resources": {"requests": {"memory": f"{mebibytes}Mi", "cpu": "10m"}}}


def all_final(cluster: Cluster, count: int, within: float) -> list[Object]:
    """The statuses of all SpokeJobs, once all are final."""

    def look() -> list[Object] | None:
        found = [item.get("status", {}) for item in cluster.spokejobs()]
        final = [status for status in found if status.get("outcome") in ("Succeeded", "Failed")]
        return final if len(final) >= count else None

    return eventually(look, "all are final", within=within)


def nobody_failed(statuses: list[Object]) -> None:
    assert Counter(status["outcome"] for status in statuses) == {"Succeeded": len(statuses)}
    assert all(not status.get("charged") and status["attempt"] == 1 for status in statuses)


def published_state(cluster: Cluster) -> str:
    """What the operator publishes of its state; empty until it does."""
    name = "metadata.name=spoke-operator-state"
    found = cluster.core.list_namespaced_config_map(cluster.namespace, field_selector=name).items
    return str((found[0].data or {}).get("state", "")) if found else ""


def writes(operator: OperatorProcess) -> float:
    return operator.metric("spoke_operator_writes_total")


@pytest.mark.parametrize("jobs", [12, pytest.param(24, marks=pytest.mark.long)])
def test_a_burst_beyond_the_nodes_room_fails_nobody(apart: Cluster, own: OperatorProcess, jobs: int) -> None:
    most = 6
    apart.template("third", "sleep-2", container=requests(memory_of_a_worker(apart) // 3))
    own.start(SPOKE_OPERATOR_MAX_PENDING=str(most), SPOKE_OPERATOR_PUBLISH_SECONDS="1")
    with watched(apart) as seen:
        for _ in range(jobs):
            apart.submit("third", startTimeoutSeconds=8)
        eventually(lambda: "ClusterFull" in published_state(apart), "the hold is published")
        statuses = all_final(apart, jobs, 120)
    nobody_failed(statuses)
    assert seen.most_without_node <= most
    assert "ClusterFull" in seen.reasons
    eventually(lambda: not apart.batch.list_namespaced_job(apart.namespace).items, "its Jobs are deleted")
    assert writes(own) <= 5 * jobs + most, "of the first ones a start is recorded before anybody waits"
    assert own.metric("spoke_operator_pods_pending") == 0


def test_a_pod_larger_than_any_node_is_named_and_ends_and_holds_nobody_up(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("giant", "0", container=requests(1_000_000))
    apart.template("small", "0", container=requests(1))
    own.start(SPOKE_OPERATOR_MAX_PENDING="2")
    giants = [apart.submit("giant", startTimeoutSeconds=12, priority=5) for _ in range(3)]
    small = [apart.submit("small") for _ in range(2)]
    for name in giants:
        assert apart.until(name, lambda status: status.get("cause"))["cause"] == "Unschedulable"
    for name in small:
        assert apart.until_final(name)["outcome"] == "Succeeded"
    for name in giants:
        status = apart.until_final(name)
        assert status["cause"] == "StartTimeout"
        finished = next(item for item in status["conditions"] if item["type"] == "Finished")
        assert "Insufficient memory" in finished["message"]


def test_a_namespace_without_its_database_waits_probes_and_goes_on(apart: Cluster, own: OperatorProcess) -> None:
    apart.template("cut-off", "away,sleep-2")  # longer than the second to which the times of attempts are exact
    own.start(SPOKE_OPERATOR_PUBLISH_SECONDS="1")
    jobs = [apart.submit("cut-off", retry={"backoffSeconds": 1, "jitter": 0}) for _ in range(5)]

    def one_that_is_held() -> Object | None:
        found = (item.get("status", {}) for item in apart.spokejobs())
        return next((status for status in found if status.get("cause") == "DatabaseAway"), None)

    held = eventually(one_that_is_held, "a job waits: any but the one that probes")
    admitted = next(item for item in held["conditions"] if item["type"] == "Admitted")
    assert "the database is away or refuses the namespace's attempts since" in admitted["message"]
    statuses = all_final(apart, len(jobs), 120)
    assert {status["outcome"] for status in statuses} == {"Succeeded"}
    seconds = sorted(status["attempts"][-1]["startedAt"] for status in statuses)
    assert seconds[0] < seconds[1], "one probes alone"


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("jobs", [250, 1000])
def test_many_at_once_with_the_defaults(apart: Cluster, own: OperatorProcess, jobs: int) -> None:
    workers = sum(1 for node in apart.core.list_node().items if not node.spec.taints)
    each = max(1, 2 * workers * memory_of_a_worker(apart) // jobs)
    apart.template("second", "spin-1", container=requests(each))
    own.start()
    with watched(apart) as seen:
        for _ in range(jobs):
            apart.submit("second")
        statuses = all_final(apart, jobs, 3000)
    nobody_failed(statuses)
    assert seen.most_without_node <= 20
    assert seen.most_pending <= 60
    assert writes(own) <= 5 * jobs + 20
    print(f"pending {seen.most_pending}, without a node {seen.most_without_node}, writes {writes(own)}, {seen.reasons}")
