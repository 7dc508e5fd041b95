"""A namespace whose ResourceQuota is used up, or zero for a while: nobody fails, and each job says why it waits."""

from __future__ import annotations

import pytest
from tests.integration.operator.conftest import Cluster, Object, OperatorProcess
from tests.integration.operator.test_full_cluster import all_final, nobody_failed, published_state, watched, writes
from tests.waiting import eventually, stays

pytestmark = pytest.mark.timeout(600)

START_TIMEOUT = 30
"""Long enough that a busy node starts a pod within it."""


def set_quota(cluster: Cluster, **hard: str) -> None:
    """Create or change the quota `few`, and wait until it counts."""
    body = {
        "metadata": {"name": "few"},
        "spec": {"hard": {name.replace("_", "/"): most for name, most in hard.items()}},
    }
    if cluster.kubectl("get", "quota", "few", "--ignore-not-found", "--output=name"):
        cluster.core.patch_namespaced_resource_quota("few", cluster.namespace, body)
    else:
        cluster.core.create_namespaced_resource_quota(cluster.namespace, body)
    read = cluster.core.read_namespaced_resource_quota
    eventually(lambda: read("few", cluster.namespace).status.hard == body["spec"]["hard"], "the quota counts")


def said(status: Object) -> set[str]:
    """What the conditions that explain a wait say."""
    return {item.get("message", "") for item in status["conditions"] if item["type"] in ("Admitted", "Running")}


@pytest.mark.parametrize(
    ("jobs", "pending", "writes_each"),
    [
        pytest.param(12, 8, 8, id="of twelve"),  # those that are refused take more writes, and are a larger part
        pytest.param(30, 20, 6, id="of thirty", marks=pytest.mark.long),
    ],
)
def test_a_burst_beyond_a_quota_of_five_pods_fails_nobody(
    apart: Cluster, own: OperatorProcess, jobs: int, pending: int, writes_each: int
) -> None:
    set_quota(apart, pods="5")
    apart.template("short", "sleep-2")
    own.start(SPOKE_OPERATOR_PUBLISH_SECONDS="1", SPOKE_OPERATOR_MAX_PENDING=str(pending))
    with watched(apart) as seen:
        for _ in range(jobs):
            apart.submit("short", startTimeoutSeconds=2 * START_TIMEOUT)
        eventually(lambda: "QuotaExceeded" in published_state(apart), "the hold is published")
        statuses = all_final(apart, jobs, 180)
    nobody_failed(statuses)
    assert "QuotaExceeded" in seen.reasons
    assert not {"StartTimeout", "PodRejected"} & seen.reasons
    assert writes(own) <= writes_each * jobs


@pytest.mark.parametrize("resource", ["pods", pytest.param("count_jobs.batch", marks=pytest.mark.long)])
def test_a_quota_at_zero_for_longer_than_the_start_timeout_and_back(
    apart: Cluster, own: OperatorProcess, resource: str
) -> None:
    jobs = 8
    set_quota(apart, **{resource: "0"})
    apart.template("short", "0")
    own.start(SPOKE_OPERATOR_MAX_PENDING="4")
    names = [apart.submit("short", startTimeoutSeconds=START_TIMEOUT) for _ in range(jobs)]
    first = apart.until(names[0], lambda status: status.get("cause") == "QuotaExceeded")
    name, who = resource.replace("_", "/"), "pod" if resource == "pods" else "Job"
    assert f"quota few: the quota of {name} is 0, and the {who} requests 1" in said(first)
    assert (first["waiting"]["object"], first["waiting"]["quota"][0]["hard"]) == ("few", "0")

    def nobody_ends() -> bool:
        return not any(item.get("status", {}).get("finishedAt") for item in apart.spokejobs())

    assert stays(nobody_ends, START_TIMEOUT + 10, every=0.5)
    assert len(apart.batch.list_namespaced_job(apart.namespace).items) <= 4
    set_quota(apart, **{resource: "20"})
    nobody_failed(all_final(apart, jobs, 180))


def test_a_pod_that_alone_exceeds_the_quota_is_named_and_ends_and_holds_nobody_up(
    apart: Cluster, own: OperatorProcess
) -> None:
    apart.core.create_namespaced_resource_quota(
        apart.namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"requests.cpu": "1"}}}
    )
    for name, cpu in (("giant", "2"), ("small", "10m")):
        apart.template(name, "0", container={"resources": {"requests": {"cpu": cpu}}})
    own.start()
    giant = apart.submit("giant", startTimeoutSeconds=START_TIMEOUT, priority=5)
    small = [apart.submit("small") for _ in range(3)]
    assert apart.until(giant, lambda status: status.get("cause"))["cause"] == "PodRejected"
    for name in small:
        assert apart.until_final(name)["outcome"] == "Succeeded"
    assert apart.until_final(giant)["cause"] == "PodRejected"
