"""A namespace whose ResourceQuota is used up: nobody fails, and each job says why it waits."""

from __future__ import annotations

import pytest
from tests.integration.operator.conftest import Cluster, OperatorProcess
from tests.integration.operator.test_full_cluster import all_final, nobody_failed, published_state, watched, writes
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)


def set_quota(cluster: Cluster, **hard: str) -> None:
    """Create the quota `few`, and wait until it counts."""
    body = {"metadata": {"name": "few"}, "spec": {"hard": hard}}
    cluster.core.create_namespaced_resource_quota(cluster.namespace, body)
    read = cluster.core.read_namespaced_resource_quota
    eventually(lambda: read("few", cluster.namespace).status.hard == hard, "the quota counts")


@pytest.mark.parametrize(
    ("jobs", "pending", "writes_each"),
    [
        pytest.param(9, 7, 8, id="of nine"),  # those that are refused take more writes, and are a larger part
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
            apart.submit("short", startTimeoutSeconds=60)
        eventually(lambda: "QuotaExceeded" in published_state(apart), "the hold is published")
        statuses = all_final(apart, jobs, 180)
    nobody_failed(statuses)
    assert "QuotaExceeded" in seen.reasons
    assert not {"StartTimeout", "PodRejected"} & seen.reasons
    assert writes(own) <= writes_each * jobs
