"""The lane `worker`: a worker deployment of the chart runs jobs beside the pods of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from tests.waiting import eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.ledger.audit.audit_events import EventFilter, events
from spoke_jobs.model import AttemptState, JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli, e2e_jobs
from .conftest import Object, Product

WORKER = "lane"
MEBI = 2**20
JOB_MEMORY_MEBI = 256
"""How much memory each child of the worker may have."""
NEEDED_BYTES = 600_000_000


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


@pytest.mark.long  # in `make test`: integration/worker/test_lane.py, unit/operator/core/test_memory_growth.py
def test_a_job_that_needs_more_memory_than_the_worker_gives_ends_once_in_a_pod_that_has_it(
    product: Product, runner: KubernetesRunner, worker: str
) -> None:
    """Nobody does anything about it: the worker ends it, the job moves, and its pod's memory grows until it fits."""
    job = runner.dispatch_job(JobData("e2e_needs_memory", NEEDED_BYTES, lane="worker"))
    row = product.ended(job, 240)
    pods = {pod["metadata"]["name"]: pod for pod in product.pods(job)}  # a successful one stays for a minute
    assert (row.state, row.runner, row.run, row.cause) == (JobState.SUCCEEDED, CLUSTER_RUNNER, 2, "")

    in_worker, *in_pods = product.ledger.attempts(job.id)
    assert in_worker.worker.startswith(worker)
    assert (in_worker.runner, in_worker.run, in_worker.cause) == (LANE_RUNNER, 1, "OutOfMemory")
    measured = in_worker.peak_memory_bytes
    assert measured is not None
    assert measured > JOB_MEMORY_MEBI * MEBI

    spokejob = product.spokejob(row, "Succeeded")
    assert (spokejob["spec"]["run"], spokejob["spec"]["measuredMemoryBytes"]) == (2, measured)
    status: Object = spokejob["status"]
    attempts: list[Object] = status["attempts"]
    limits, requests = ([memory_of(item, kind) for item in attempts] for kind in ("memoryLimit", "memoryRequest"))
    print(
        f"FIGURE measured in the worker: {measured // MEBI} MiB; limits of the pods: {[n // MEBI for n in limits]} MiB"
    )
    failed = ["OutOfMemory"] * (len(attempts) - 1)
    assert [item.get("cause", "") for item in attempts] == [*failed, ""]
    assert status.get("charged", {}) == ({"oom": len(failed)} if failed else {}), "the worker's attempt is of run 1"
    assert len(attempts) <= 2, "the second pod has 768Mi at least"
    assert limits == sorted(set(limits)), "each pod has more than the one before"
    assert requests == sorted(set(requests))
    assert limits[-1] > NEEDED_BYTES
    assert requests[0] >= measured - MEBI, "the first pod requests what was measured, in whole mebibytes"
    for attempt in attempts:
        (container,) = [item for item in pods[attempt["pod"]]["spec"]["containers"] if item["name"] == "job"]
        memory = [container["resources"][kind]["memory"] for kind in ("limits", "requests")]
        assert memory == [attempt["memoryLimit"], attempt["memoryRequest"]]

    def recorded() -> list[tuple[int, str, AttemptState, str]]:
        return [(item.run, item.runner, item.state, item.cause) for item in product.ledger.attempts(job.id)[1:]]

    expected = [(2, CLUSTER_RUNNER, AttemptState.FAILED, cause) for cause in failed]
    expected.append((2, CLUSTER_RUNNER, AttemptState.SUCCEEDED, ""))
    assert len(in_pods) == len(attempts)
    eventually(lambda: recorded() == expected, "the ledger has the attempts' causes", state=recorded)
    assert in_pods[-1].worker == attempts[-1]["pod"]
    with product.engine.connect() as connection:
        of_job = select(func.count()).select_from(e2e_jobs.effect).where(e2e_jobs.effect.c.job_id == job.id)
        assert connection.scalar(of_job) == 1, "one result"
        assert events(connection, which=EventFilter(job_id=job.id)) == [], "nobody has done anything about the job"


def memory_of(attempt: Object, field: str) -> int:
    """How much memory an attempt's pod requests, or may have at most."""
    amount = in_bytes(attempt[field])
    assert amount is not None
    return int(amount)


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
