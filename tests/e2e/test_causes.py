"""How the job's own process can fail, named on the SpokeJob and in the row: with the real runner, ledger and sync.

What happens to its pod, Job or node is in tests/integration/operator/causes.
"""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime

import pytest
from tests.contract.ledger import new_job
from tests.waiting import WITHIN_SECONDS, eventually

from spoke_jobs import Registry, RetryPolicy
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.causes import CAUSES, CauseClass
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import LONGEST_LEASE_SECONDS

from . import e2e_jobs
from .conftest import Object, Product

PROMPT_SECONDS = 28.0
"""Sooner than the operator's next comparison, so its watches have told it, however slow the machine is."""
ONCE = RetryPolicy(budget=dict.fromkeys((CauseClass.ERROR, CauseClass.INFRASTRUCTURE), 1))
NEVER_AGAIN = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))
CUT_OFF = "cut-off"
"""A PodTemplate whose pods reach no database."""
NOWHERE = "postgresql+psycopg://spoke:planted-password@192.0.2.1:5432/spoke"
"""An address that is nobody's (RFC 5737)."""


@pytest.fixture(scope="module")
def cut_off(product: Product) -> str:
    """The template of that name."""
    template = product.get("podtemplate", "default")
    assert template
    template["metadata"] = {"name": CUT_OFF, "labels": template["metadata"]["labels"]}
    container = template["template"]["spec"]["containers"][0]
    others = [item for item in container["env"] if item["name"] != "SPOKE_DATABASE_URL"]
    container["env"] = [*others, {"name": "SPOKE_DATABASE_URL", "value": NOWHERE}]
    product.apply_template(template)
    return CUT_OFF


@pytest.fixture(scope="module")
def cut_off_job(runner: KubernetesRunner, cut_off: str) -> JobRequest:
    """Dispatched before the others are waited for: its pod tries for its start timeout."""
    data = JobData("e2e_echo", 1, pod_template=cut_off, retry=NEVER_AGAIN, start_timeout_seconds=60)
    return runner.dispatch_job(data)


def finished(product: Product, name: str, within: float = WITHIN_SECONDS) -> Object:
    """The SpokeJob at its end."""

    def look() -> Object | None:
        found = product.get("spokejob", name)
        return found if found and (found.get("status") or {}).get("outcome") in ("Succeeded", "Failed") else None

    return eventually(look, f"SpokeJob {name} to end", within=within)


def container_ended_at(product: Product, spokejob: str) -> datetime:
    """When the container of its newest pod ended, by the kubelet."""
    found = product.get("pods", "--selector", f"jobs.spoke.dev/spokejob={spokejob}")
    assert found
    states = [pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] for pod in found["items"]]
    return datetime.fromisoformat(max(states))


def says(spokejob: Object, cause: str) -> None:
    """The cause and what to do stand on the SpokeJob."""
    status = spokejob["status"]
    assert (status["outcome"], status["cause"]) == ("Failed", cause)
    condition = next(item for item in status["conditions"] if item["type"] == "Finished")
    assert condition["reason"] == cause
    assert CAUSES[cause].advise(spokejob["spec"]["requestId"]) in condition["message"]


def is_named(product: Product, spokejob: Object, cause: str) -> None:
    """They do so soon after the container's end."""
    says(spokejob, cause)
    status = spokejob["status"]
    ended = container_ended_at(product, spokejob["metadata"]["name"])
    took = (datetime.fromisoformat(status["finishedAt"]) - ended).total_seconds()
    print(f"FIGURE {cause}: {took:.1f} s after the container's end")
    assert took <= PROMPT_SECONDS


HOSTILE: dict[str, tuple[str, int]] = {
    "deep nesting": ("[" * 4096, 1),
    "a success": ("", 0),
}
"""Termination messages that a job writes in place of the library, and its exit code."""


def test_a_job_that_writes_its_own_termination_message_ends_with_a_cause_and_gives_its_queue_back(
    product: Product, runner: KubernetesRunner
) -> None:
    behind = {}
    for name, (text, code) in HOSTILE.items():
        message = e2e_jobs.Message(text=text, exit_code=code)
        data = JobData("e2e_leaves_a_message", message, queue_name=f"hostile:{name}", locks_queue=True)
        follower = JobData("e2e_echo", name, queue_name=f"hostile:{name}", locks_queue=True)
        behind[name] = runner.dispatch_job(data), runner.dispatch_job(follower)
    for name, (hostile, next_one) in behind.items():
        ended = product.ended(hostile)
        assert (ended.state, ended.attempt) == (JobState.FAILED, 1), (name, ended)
        assert ended.cause in CAUSES, name
        spokejob = finished(product, name_of(hostile))
        assert spokejob["status"]["cause"] in CAUSES, name
        assert product.ended(next_one).state is JobState.SUCCEEDED, name


@pytest.mark.usefixtures("cut_off_job")
def test_a_payload_of_another_release_is_tried_once(product: Product) -> None:
    registry = Registry()
    registry.job("e2e_slow")(lambda _ctx, _payload: None)
    newer = product.runner(registry)
    job = newer.dispatch_job(JobData("e2e_slow", {"seconds": "planted marker"}))
    newer.close()
    spokejob = finished(product, name_of(job))
    is_named(product, spokejob, "InvalidPayload")
    assert spokejob["status"]["attempt"] == 1
    assert "planted marker" not in json.dumps(spokejob)
    assert (product.ended(job).state, product.row(job).cause) == (JobState.FAILED, "InvalidPayload")


def test_an_exception(product: Product, runner: KubernetesRunner) -> None:
    """Its type is on the SpokeJob; its words and the traceback's last lines are in the ledger, and only there."""
    job = runner.dispatch_job(JobData("e2e_raise", "planted marker", retry=ONCE))
    spokejob = finished(product, name_of(job))
    is_named(product, spokejob, "JobError")
    (attempt,) = spokejob["status"]["attempts"]
    assert (attempt["errorType"], attempt["exitCode"]) == ("ValueError", 10)
    assert product.ended(job).cause == "JobError"
    (recorded,) = product.ledger.attempts(job.id)
    assert recorded.output_tail.rstrip().endswith("ValueError: as it was told to: planted marker")
    assert 'raise ValueError(f"as it was told to' in recorded.output_tail
    for shown in (spokejob, *product.pods(job), product.get("events")):
        assert "planted marker" not in json.dumps(shown)
        assert "Traceback" not in json.dumps(shown)


def test_a_spokejob_without_a_row(product: Product) -> None:
    name = f"e2e-by-hand-{uuid.uuid4().hex[:8]}"
    spec = {"uid": str(uuid.uuid4()), "requestId": 2**31 - 1, "jobType": "e2e_echo"}
    body = {"apiVersion": "jobs.spoke.dev/v1", "kind": "SpokeJob", "metadata": {"name": name}, "spec": spec}
    product.kubectl("create", "--filename=-", stdin=json.dumps(body))
    spokejob = finished(product, name)
    is_named(product, spokejob, "NoRow")
    assert spokejob["status"]["attempt"] == 1


def test_a_spokejob_that_is_deleted_ends_its_row_and_its_pod(product: Product, runner: KubernetesRunner) -> None:
    job = runner.dispatch_job(JobData("e2e_slow", e2e_jobs.Slow(seconds=300)))
    pod = product.running_pod(job)["metadata"]["name"]
    product.kubectl("delete", "spokejob", name_of(job))
    deleted = time.monotonic()
    row = product.ended(job)
    print(f"FIGURE SpokeJobDeleted: {time.monotonic() - deleted:.1f} s after the deletion")
    assert (row.state, row.cause) == (JobState.FAILED, "SpokeJobDeleted")
    assert time.monotonic() - deleted <= PROMPT_SECONDS
    eventually(lambda: product.get("pod", pod) is None, "its pod to go")


def test_a_queue_that_another_holds(product: Product, runner: KubernetesRunner) -> None:
    """As a worker's job may: the operator knows nothing of it, and the pod finds out."""
    ledger, queue = SqlLedger(product.engine), f"held-{uuid.uuid4().hex[:8]}"
    ledger.insert(new_job(job_type="of_a_worker", queue_name=queue, locks_queue=True))
    (holder,) = ledger.claim_batch("legacy", ["of_a_worker"], "w", LONGEST_LEASE_SECONDS)
    job = runner.dispatch_job(JobData("e2e_echo", 2, queue_name=queue, locks_queue=True))

    def first_attempt_ended() -> Object | None:
        status: Object = product.spokejob(job).get("status") or {}
        return status if any(item.get("finishedAt") for item in status.get("attempts", ())) else None

    status = eventually(first_attempt_ended, "its first attempt to end")
    first = status["attempts"][0]
    assert (first["cause"], first["exitCode"]) == ("QueueHeld", ExitCode.HELD)
    assert status["outcome"] == "Waiting"
    assert product.row(job).state is JobState.WAITING
    ledger.succeed(None, holder.token, None)
    status = product.spokejob(job, "Succeeded", 120)["status"]
    assert status.get("charged", {}) == {}
    assert [item["cause"] for item in status["attempts"]] == ["QueueHeld"] * (status["attempt"] - 1) + [""]
    assert product.ended(job).state is JobState.SUCCEEDED


def test_a_database_that_the_pod_cannot_reach(product: Product, cut_off_job: JobRequest) -> None:
    """Nothing of it is in the ledger until sync has brought it there."""
    spokejob = finished(product, name_of(cut_off_job), 150)
    is_named(product, spokejob, "DatabaseUnreachable")
    assert "planted-password" not in json.dumps(spokejob)
    row = product.ended(cut_off_job)
    assert (row.state, row.cause) == (JobState.FAILED, "DatabaseUnreachable")
