"""`spoke-jobs cancel` and `retry` on the real product, from the command line to pods and back."""

from __future__ import annotations

from tests.waiting import eventually

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli, e2e_jobs
from .conftest import Product

ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))
SLOW = e2e_jobs.Slow(seconds=300)


def test_one_that_runs_is_asked_to_stop_and_ends(product: Product, runner: KubernetesRunner) -> None:
    job = runner.dispatch_job(JobData("report", "goes on"))
    eventually(lambda: product.row(job).state is JobState.RUNNING, "it runs")
    assert cli.run(product, "cancel", job.id).stdout == f"{job.id}\treport\tasked to stop\n"
    row = product.ended(job)
    assert (row.state, row.cause) == (JobState.FAILED, "Cancelled")
    assert product.spokejob(job, "Failed")["status"]["cause"] == "Cancelled"


def test_a_retry_is_a_spokejob_of_its_own_that_runs_to_its_end(product: Product, runner: KubernetesRunner) -> None:
    job = runner.dispatch_job(JobData("e2e_prints", e2e_jobs.Prints(failures=1), retry=ONCE))
    assert product.ended(job).cause == "JobError"
    product.spokejob(job, "Failed")
    assert cli.run(product, "retry", job.id).stdout == f"{job.id}\te2e_prints\twaiting, run 2\n"
    assert "only a failed job can be retried" in cli.run(product, "retry", job.id, code=1).stderr
    again = product.row(job)
    assert name_of(again) == f"{name_of(job)}-r2"
    assert product.ended(job).state is JobState.SUCCEEDED
    assert product.spokejob(again, "Succeeded")["spec"]["run"] == 2
    eventually(lambda: product.get("spokejob", name_of(job)) is None, "the first run's SpokeJob is gone")
