"""Schedules in the cluster: sync dispatches and launches each occurrence once, also if its pods are deleted."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

from tests.waiting import eventually

from spoke_jobs import Every, put_schedule, remove_schedule, use_runner
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from .conftest import Product

NAME = "every three seconds"
OCCURRENCES = 5


def test_each_occurrence_has_one_spokejob_though_sync_s_pods_are_deleted(
    product: Product, runner: KubernetesRunner
) -> None:
    def jobs() -> list[JobRequest]:
        found = [job for job in product.ledger.list_jobs(1000) if job.schedule == NAME]
        return sorted(found, key=lambda job: job.id)

    with use_runner(runner):
        put_schedule(NAME, "e2e_echo", Every(seconds=3, misfire="all"), payload="ticks")
        try:
            for wanted in (1, 3):
                eventually(lambda wanted=wanted: len(jobs()) >= wanted, f"{wanted} jobs", state=jobs)  # type: ignore[misc]
                product.kubectl("delete", "pods", "--selector=app.kubernetes.io/component=sync", "--wait=false")
            eventually(lambda: len(jobs()) >= OCCURRENCES, "all jobs", state=jobs)
        finally:
            remove_schedule(NAME)
    found = jobs()
    ended = [product.ended(job) for job in found]
    assert {(row.state, row.attempt) for row in ended} == {(JobState.SUCCEEDED, 1)}
    times = [row.scheduled_for for row in ended]
    for before, after in pairwise(times):
        assert before is not None
        assert after is not None
        assert after - before == timedelta(seconds=3)
    listed = product.get("spokejobs")
    assert listed
    made = Counter(item["spec"]["uid"] for item in listed["items"])
    assert [made[str(job.uid)] for job in found] == [1] * len(found)
