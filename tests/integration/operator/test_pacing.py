"""Limits, locks and fair turns on a real cluster, measured by what the jobs themselves say of when they ran."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import pytest
from tests.integration.operator.conftest import Cluster, OperatorProcess
from tests.waiting import eventually


class Ran(NamedTuple):
    """One job, by its own clock (all nodes are this machine's)."""

    began: float
    ended: float


def outcome_of(cluster: Cluster, names: set[str], within: float) -> dict[str, Ran]:
    """When each ran, once all have succeeded."""

    def all_ended() -> bool:
        spokejobs = cluster.spokejobs()
        ended = {item["metadata"]["name"] for item in spokejobs if item.get("status", {}).get("outcome") == "Succeeded"}
        return names <= ended

    eventually(all_ended, "all have succeeded", within=within)
    found: dict[str, Ran] = {}
    for pod in cluster.core.list_namespaced_pod(cluster.namespace, label_selector="jobs.spoke.dev/spokejob").items:
        name = pod.metadata.labels["jobs.spoke.dev/spokejob"]
        if name in names:
            assert name not in found, "one attempt each"
            began, ended = pod.status.container_statuses[0].state.terminated.message.split()
            found[name] = Ran(float(began), float(ended))
    assert found.keys() == names
    return found


def most_at_once(ran: list[Ran]) -> int:
    moments = sorted([(item.began, 1) for item in ran] + [(item.ended, -1) for item in ran])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


LARGE = pytest.mark.long, pytest.mark.timeout(900)


@pytest.mark.parametrize(("jobs", "queues", "limit"), [(12, 4, 3), pytest.param(200, 20, 10, marks=LARGE)])
def test_locked_queues_never_overlap_and_the_limit_is_kept(
    apart: Cluster, own: OperatorProcess, jobs: int, queues: int, limit: int
) -> None:
    apart.template("works", "work")
    own.start(SPOKE_OPERATOR_MAX_RUNNING=str(limit), SPOKE_OPERATOR_JOB_RETENTION_SECONDS="3600")
    queue_of = {}
    for number in range(jobs):
        locks = (number // queues) % 2 == 0  # in each queue some do and some don't
        name = apart.submit("works", queue=f"queue-{number % queues}", locksQueue=locks)
        queue_of[name] = (f"queue-{number % queues}", locks)
    ran = outcome_of(apart, set(queue_of), 30 + 6 * jobs)
    assert most_at_once(list(ran.values())) <= limit
    by_queue = defaultdict(list)
    for name, item in ran.items():
        queue, locks = queue_of[name]
        if locks:
            by_queue[queue].append(item)
    assert len(by_queue) == queues
    for queue, items in by_queue.items():
        for earlier, later in pairwise(sorted(items)):
            assert earlier.ended <= later.began, f"two of {queue} at once"
    assert own.metric("spoke_operator_attempts_failed_total") == 0, "paced, they never found a queue held"
