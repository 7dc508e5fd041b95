"""Dispatch, row, SpokeJob, Job, pod, result; and every way in which that goes wrong but ends well."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select
from tests.waiting import eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.model import AttemptState, JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import Object, Product


def conditions(spokejob: Object) -> dict[str, str]:
    return {item["type"]: item["status"] for item in spokejob["status"]["conditions"]}


def test_from_dispatch_to_result(product: Product, runner: KubernetesRunner) -> None:
    payload = {"marker": "payloads stay in the ledger"}
    job = runner.dispatch_job(JobData("e2e_echo", payload, queue_name="q", organization_id=7))
    row = product.ended(job)
    assert (row.state, row.result, row.status, row.cause) == (JobState.SUCCEEDED, payload, 100, "")
    spokejob = product.spokejob(job, "Succeeded")
    spec, status = spokejob["spec"], spokejob["status"]
    assert (spec["uid"], spec["requestId"], spec["queue"], spec["organization"]) == (str(job.uid), job.id, "q", 7)
    assert conditions(spokejob)["Finished"] == conditions(spokejob)["Succeeded"] == "True"
    product.kubectl("wait", "--for=condition=Finished", f"spokejob/{name_of(job)}", f"--timeout={patient(300):.0f}s")
    (attempt,) = status["attempts"]
    # Where the ledger's word comes before the container's end is seen, no exit code is known.
    assert (attempt["number"], attempt.get("exitCode", 0), attempt["cause"]) == (1, 0, "")
    (pod,) = product.pods(job)
    assert (pod["metadata"]["name"], pod["spec"]["nodeName"]) == (attempt["pod"], attempt["node"])
    # The namespace enforces the standard `restricted`, so the pod is there; the rest is ours to see to.
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert all("serviceAccountToken" not in json.dumps(volume) for volume in pod["spec"]["volumes"])
    (recorded,) = product.ledger.attempts(job.id)
    assert (recorded.state, recorded.worker) == (AttemptState.SUCCEEDED, attempt["pod"])
    for shown in (spokejob, pod, product.get("jobs", "--selector", f"jobs.spoke.dev/uid={job.uid}")):
        assert payload["marker"] not in json.dumps(shown)


def test_garbage_is_collected_once_the_pod_has_started(product: Product, runner: KubernetesRunner) -> None:
    assert product.ended(runner.dispatch_job(JobData("e2e_collects_garbage"))).result is True


def test_a_thread_left_behind_keeps_no_pod(product: Product, runner: KubernetesRunner) -> None:
    job = runner.dispatch_job(JobData("e2e_leaves_a_thread"))
    assert product.ended(job).cause == "JobError"
    assert product.spokejob(job, "Failed")["status"]["attempts"][0]["exitCode"] == 10


@pytest.mark.long  # in `make test`: a worker's job that does so (tests/contract/worker_ends.py)
def test_a_lease_that_lapses_is_charged_under_its_own_name(product: Product, runner: KubernetesRunner) -> None:
    """By a call that holds the interpreter for longer than the lease (10 s here)."""
    job = runner.dispatch_job(JobData("e2e_holds_the_interpreter", 15))
    row = product.ended(job, 200)
    assert (row.state, row.cause) == (JobState.FAILED, "WorkerLost")


def test_two_pods_for_one_attempt_leave_one_result(product: Product, runner: KubernetesRunner) -> None:
    job = runner.dispatch_job(JobData("e2e_slow", e2e_jobs.Slow(seconds=4)))
    original = product.running_pod(job)
    second = f"{original['metadata']['name'][:50]}-copy"
    # Without the labels that the Job selects by: its controller would end one of the two.
    labels = {name: value for name, value in original["metadata"]["labels"].items() if "jobs.spoke.dev/" in name}
    spec = {name: value for name, value in original["spec"].items() if name != "nodeName"}
    copy = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": second, "labels": labels}, "spec": spec}
    product.kubectl("create", "--filename=-", stdin=json.dumps(copy))
    row = product.ended(job)
    assert row.state is JobState.SUCCEEDED

    def copy_ended() -> Object | None:
        pod = product.get("pod", second)
        assert pod
        states = pod["status"].get("containerStatuses", [{}])
        ended: Object | None = states[0].get("state", {}).get("terminated")
        return ended

    ended = eventually(copy_ended, "the copied pod to end")
    assert ended["exitCode"] == 0  # it met a job that had succeeded
    with product.engine.connect() as connection:
        results = connection.execute(select(e2e_jobs.effect).where(e2e_jobs.effect.c.job_id == job.id)).all()
    assert [result.pod for result in results] == [row.result["pod"]]
    assert len(product.ledger.attempts(job.id)) == 1
    assert product.spokejob(job, "Succeeded")["status"]["attempt"] == 1


def test_two_spokejobs_for_one_row_leave_one_result(product: Product, runner: KubernetesRunner) -> None:
    """The second is made by hand while the first one's pod runs: both end, the row's function ran once."""
    job = runner.dispatch_job(JobData("e2e_slow", e2e_jobs.Slow(seconds=4)))
    product.running_pod(job)
    original = product.get("spokejob", name_of(job))
    assert original
    second = f"{name_of(job)}-copy"
    copy = {name: original[name] for name in ("apiVersion", "kind", "spec")} | {"metadata": {"name": second}}
    product.kubectl("create", "--filename=-", stdin=json.dumps(copy))
    row = product.ended(job)
    assert row.state is JobState.SUCCEEDED
    names = (name_of(job), second)
    product.kubectl(
        "wait", "--for=condition=Finished", *(f"spokejob/{name}" for name in names), f"--timeout={patient(300):.0f}s"
    )
    with product.engine.connect() as connection:
        results = connection.execute(select(e2e_jobs.effect).where(e2e_jobs.effect.c.job_id == job.id)).all()
    assert len(results) == len(product.ledger.attempts(job.id)) == 1
    for name in names:
        spokejob = product.get("spokejob", name)
        assert spokejob
        assert spokejob["status"]["outcome"] == "Succeeded"
