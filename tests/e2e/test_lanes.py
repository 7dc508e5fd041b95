"""The lane `worker`: a worker deployment of the chart runs jobs beside the pods of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.waiting import eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli
from .conftest import Product

WORKER = "lane"
JOB_MEMORY_MEBI = 256
"""How much memory each child of the worker may have."""


@pytest.fixture(scope="module")
def worker(product: Product, texting_chart: str) -> Iterator[str]:
    """A worker deployment of the release, as the chart makes it; gives the beginning of its pods' names."""
    where = ("--namespace", product.namespace)
    run = product.cluster.run
    values = run("helm", "get", "values", product.release, *where, "--output=json")
    options = ("lane=worker", "processes=1", "graceSeconds=5", f"jobMemory={JOB_MEMORY_MEBI}Mi")
    given = [f"--set=spoke-app.workers.{WORKER}.{item}" for item in options]
    shown = "--show-only=charts/spoke-app/templates/workers.yaml"
    manifest = run(
        "helm", "template", product.release, texting_chart, *where, "--values=-", *given, shown, stdin=values
    )
    product.kubectl("apply", "--filename=-", stdin=manifest)
    selector = f"app.kubernetes.io/component=worker-{WORKER}"
    found = product.get("deployments", "--selector", selector)
    assert found is not None
    (deployment,) = found["items"]
    name: str = deployment["metadata"]["name"]
    product.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={patient(120):.0f}s")
    yield name
    product.kubectl("delete", "--filename=-", stdin=manifest)


def test_a_job_of_the_lane_runs_in_the_worker_without_a_spokejob_or_a_pod(
    product: Product, runner: KubernetesRunner, worker: str
) -> None:
    job = runner.dispatch_job(JobData("e2e_echo", "small", lane="worker"))
    row = product.ended(job)
    assert (row.state, row.result, row.runner) == (JobState.SUCCEEDED, "small", LANE_RUNNER)
    (attempt,) = product.ledger.attempts(job.id)
    assert attempt.worker.startswith(worker)
    assert product.pods(job) == []
    assert product.get("spokejob", name_of(job)) is None


def test_a_job_that_is_killed_in_the_worker_ends_in_a_pod(
    product: Product, runner: KubernetesRunner, worker: str
) -> None:
    job = runner.dispatch_job(JobData("e2e_dies_in_a_worker", lane="worker"))
    row = product.ended(job)
    assert (row.state, row.result, row.runner, row.run) == (JobState.SUCCEEDED, "in a pod", CLUSTER_RUNNER, 2)
    first, second = product.ledger.attempts(job.id)
    assert first.worker.startswith(worker)
    assert (first.cause, first.runner, second.runner) == ("Killed", LANE_RUNNER, CLUSTER_RUNNER)
    (pod,) = product.pods(job)
    assert second.worker == pod["metadata"]["name"]
    assert product.spokejob(row, "Succeeded")["spec"]["run"] == 2
    assert "pod, moved from worker" in cli.run(product, "show", job.id, JOB_RUNNER="kubernetes").stdout


def test_a_queue_s_lock_holds_across_the_lanes(product: Product, runner: KubernetesRunner, worker: str) -> None:
    assert worker
    queue = {"queue_name": "lanes", "locks_queue": True}
    slow = runner.dispatch_job(JobData("e2e_slow", {"seconds": 3}, lane="worker", **queue))
    eventually(lambda: product.row(slow).state is JobState.RUNNING, "it holds the lock")
    behind = runner.dispatch_job(JobData("e2e_echo", "behind", **queue))
    first, second = product.ended(slow), product.ended(behind)
    assert (first.state, second.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    assert first.finished_at is not None
    (*held, last) = product.ledger.attempts(behind.id)
    assert last.claimed_at > first.finished_at
    assert held == [], "an attempt that finds the lock held claims nothing"
