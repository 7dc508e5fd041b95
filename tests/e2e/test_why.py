"""`spoke-jobs why` on the real product: the ledger's word and the cluster's together."""

from __future__ import annotations

from collections.abc import Callable

from tests.waiting import eventually

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli, e2e_jobs
from .conftest import Object, Product


def why(product: Product, job: JobRequest, **environment: str) -> dict[str, Object]:
    """The reasons by their codes."""
    reasons = cli.document(product, "why", job.id, **environment)["reasons"]
    return {reason["code"]: reason for reason in reasons}


def why_once(product: Product, job: JobRequest, wanted: Callable[[dict[str, Object]], bool]) -> dict[str, Object]:
    """The reasons once they are as wanted."""
    return eventually(lambda: said if wanted(said := why(product, job)) else None, f"why {job.id} as wanted")


def test_behind_the_job_that_has_its_queue(product: Product, runner: KubernetesRunner) -> None:
    data = JobData("e2e_slow", e2e_jobs.Slow(seconds=300), queue_name="why", locks_queue=True)
    first = runner.dispatch_job(data)
    node = product.running_pod(first)["spec"]["nodeName"]
    second = runner.dispatch_job(data)
    reason = why_once(product, second, lambda said: node in said.get("queue_lock", {}).get("text", ""))["queue_lock"]
    assert reason["text"].startswith(f"behind e2e_slow {first.id} in queue why, running ")
    assert (reason["job_id"], reason["advice"]) == (first.id, f"spoke-jobs why {first.id}")
    assert node in why_once(product, first, lambda said: "cluster" in said)["cluster"]["text"]
    assert cli.run(product, "cancel", second.id).stdout == f"{second.id}\te2e_slow\tcancelled\n"
    assert "has already failed (Cancelled)" in cli.run(product, "cancel", second.id, code=1).stderr
    assert product.pods(second) == [], "one that waits is cancelled, and never has a pod"
    product.ledger.cancel(first.id)
    for job in (first, second):
        assert product.ended(job).cause == "Cancelled"
        assert product.spokejob(job, "Failed")["status"]["cause"] == "Cancelled"


def test_what_is_to_be_mended_is_named_and_where_the_cluster_is_out_of_reach_that_is(
    product: Product, runner: KubernetesRunner
) -> None:
    job = runner.dispatch_job(JobData("e2e_echo", 1, pod_template="nowhere"))
    reason = why_once(product, job, lambda said: said.get("cluster", {}).get("cause") == "TemplateMissing")["cluster"]
    assert reason["advice"] == CAUSES["TemplateMissing"].advice
    assert reason["until"]
    blind = why(product, job, KUBECONFIG="/nowhere")
    assert "could not be read" in blind["cluster_unknown"]["text"]
    product.ledger.cancel(job.id)
    assert product.ended(job).cause == "Cancelled"
