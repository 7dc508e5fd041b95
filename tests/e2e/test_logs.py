"""`spoke-jobs logs` and `show` on the real product: pods' own output, across attempts, and what is left of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Namespace
from tests.waiting import eventually, patient

from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.cluster.rights import RIGHTS
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli, e2e_jobs
from .conftest import Product

ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))


def prints(runner: KubernetesRunner, **payload: float) -> JobRequest:
    return runner.dispatch_job(JobData("e2e_prints", e2e_jobs.Prints.model_validate(payload)))


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """The lines that it prints up to the wanted one."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == wanted:
            return lines
    raise AssertionError(f"it ended before {wanted!r}: {lines} {process.stderr and process.stderr.read()}")


def test_follows_from_before_the_pod_through_all_attempts_to_the_end(
    product: Product, runner: KubernetesRunner
) -> None:
    holder = runner.dispatch_job(JobData("e2e_slow", e2e_jobs.Slow(seconds=300), queue_name="f", locks_queue=True))
    product.running_pod(holder)
    job = runner.dispatch_job(
        JobData("e2e_prints", e2e_jobs.Prints(lines=2, failures=1), queue_name="f", locks_queue=True)
    )
    behind = f"behind e2e_slow {holder.id} in queue f"
    eventually(lambda: behind in cli.run(product, "logs", job.id).stderr, "it waits for the queue")
    process = cli.start(product, "logs", job.id, "--follow")
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith(f"job {job.id}: ")
    assert behind in said
    cli.run(product, "cancel", holder.id)
    out, errors = process.communicate(timeout=patient(240))
    assert process.returncode == 0, errors
    both = [text for attempt in (1, 2) for line in (1, 2) for text in (f"attempt {attempt}, line {line}", "")]
    assert [text for text in out.splitlines() if text in both] == both
    assert "ValueError: not yet" in out
    assert f"attempt 1: {name_of(job)}-1-" in errors
    assert "attempt 2: " in errors
    assert product.row(job).state == "succeeded"


def test_a_pod_that_is_deleted_is_followed_by_the_next_attempt_s(product: Product, runner: KubernetesRunner) -> None:
    job = prints(runner, lines=1000)
    process = cli.start(product, "logs", job.id, "-f")
    read_until(process, "attempt 1, line 3")
    product.kubectl("delete", "pod", product.running_pod(job)["metadata"]["name"], "--wait=false")
    seen = read_until(process, "attempt 2, line 3")
    assert seen.count("attempt 2, line 1") == 1
    assert len([text for text in seen if text.startswith("attempt 1, line ")]) == len(
        {text for text in seen if text.startswith("attempt 1, line ")}
    ), "no line twice"
    cli.run(product, "cancel", job.id)
    process.communicate(timeout=patient(120))
    assert process.returncode == 1, "as `watch` ends where a job has failed"


@pytest.fixture(scope="module")
def failed(product: Product, runner: KubernetesRunner) -> JobRequest:
    """A job that has failed. The last of its tests deletes its pod."""
    job = runner.dispatch_job(JobData("e2e_raise", "so", retry=ONCE))
    product.ended(job)
    return job


def test_a_right_that_is_missing_is_named_and_the_tail_is_there(
    product: Product, failed: JobRequest, tmp_path: Path
) -> None:
    job = failed
    reader = RIGHTS[Account.READER]
    without_logs = tuple(right for right in reader if right.subresource != "log")
    namespace = Namespace(product.namespace, product.cluster.env)
    blind = namespace.account("blind-reader", without_logs, tmp_path)
    done = cli.run(product, "logs", job.id, code=1, KUBECONFIG=blind)
    assert f"system:serviceaccount:{product.namespace}:blind-reader may not get pods/log" in done.stderr
    assert "the Role FULLNAME-reader of the chart spoke-app gives that right" in done.stderr
    assert done.stdout.rstrip().endswith("ValueError: as it was told to: so")
    enough = namespace.account("enough", tuple(right for right in reader if right.resource == "pods"), tmp_path)
    assert "ValueError" in cli.run(product, "logs", job.id, KUBECONFIG=enough).stdout
    assert cli.run(product, "logs", job.id, "-f", code=1, KUBECONFIG=enough).stdout.count("ValueError: as it") >= 1


def test_once_its_pods_are_gone_the_ledger_s_tail_is_printed(product: Product, failed: JobRequest) -> None:
    job = failed
    whole = cli.run(product, "logs", job.id)
    assert "ValueError: as it was told to: so" in whole.stdout
    assert whole.stderr == "attempt 1: the last lines of its traceback, from the ledger\n"
    (pod,) = product.pods(job)
    reports = Queries(product.engine)
    eventually(lambda: any(report.outputs for report in reports.reports(job.id)), "its output is in the ledger")
    product.kubectl("delete", "job", f"{name_of(job)}-1", "--cascade=foreground")
    eventually(lambda: not product.pods(job), "its pod is gone")
    tail = cli.run(product, "logs", job.id, "--attempt", 1)
    assert tail.stdout.rstrip().endswith("ValueError: as it was told to: so")
    gone = f"attempt 1: its pod, {pod['metadata']['name']}, is gone; the last lines of each container's output follow"
    assert gone in tail.stderr
    assert cli.run(product, "logs", job.id, "-f", code=1).stdout == tail.stdout


def test_show_has_attempts_with_pods_nodes_and_causes(product: Product, runner: KubernetesRunner) -> None:
    job = prints(runner, lines=1, failures=1)
    product.ended(job)
    product.spokejob(job, "Succeeded")
    shown = cli.document(product, "show", job.id)
    first, second = shown["cluster"]["attempts"]
    assert (shown["cluster"]["outcome"], shown["cluster"]["problem"]) == ("Succeeded", "")
    assert (first["cause"], first["error_type"], first["exit_code"]) == ("JobError", "ValueError", 10)
    assert [item["pod"] for item in shown["cluster"]["attempts"]] == [item["worker"] for item in shown["attempts"]]
    assert second["node"] == product.pods(job)[-1]["spec"]["nodeName"]
    lines = [text.split("\t") for text in cli.run(product, "show", job.id).stdout.splitlines()]
    assert [(line[4], line[9]) for line in lines if line[0] == "attempt"] == [
        (item["pod"], item["node"]) for item in (first, second)
    ]
    blind = cli.document(product, "show", job.id, KUBECONFIG="/nowhere")
    assert "no credentials" in blind["cluster"]["problem"]
    assert len(blind["attempts"]) == 2
    assert json.dumps(blind["job"]) == json.dumps(shown["job"])
