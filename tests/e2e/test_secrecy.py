"""What the application entrusts to us is seen nowhere but in its database. Looked for after all other tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url
from tests.waiting import wait_for

from spoke_jobs.model import JobData
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes import KubernetesRunner

from . import e2e_jobs
from .conftest import Cluster, Product, secret

pytestmark = pytest.mark.timeout(900)

MARKER = e2e_jobs.MARKER
"""Planted in payloads, results, exceptions and output. (What a job says of its progress is for everybody to read.)"""


@pytest.fixture(scope="module")
def told(product: Product, runner: KubernetesRunner) -> list[str]:
    """Jobs that were given secrets and leave them wherever a job can, at both of its ends; what their rows hold."""
    jobs = [
        runner.dispatch_job(JobData("e2e_tells", {"secret": MARKER, "fails": False})),
        runner.dispatch_job(JobData("e2e_tells", {"secret": MARKER, "fails": True})),
    ]
    other_release = Registry()  # which takes what the pods' doesn't
    other_release.job("e2e_tells")(lambda _ctx, _payload: None)
    other_runner = product.runner(other_release)
    jobs.append(other_runner.dispatch_job(JobData("e2e_tells", {"misspelt": MARKER})))
    other_runner.close()
    ends = [product.ended(job).cause for job in jobs]
    assert ends == ["", "JobError", "InvalidPayload"]
    ids = ", ".join(str(job.id) for job in jobs)
    with product.engine.connect() as connection:
        requests = connection.exec_driver_sql(f"SELECT * FROM job_request WHERE id IN ({ids})").all()
        attempts = connection.exec_driver_sql(f"SELECT * FROM job_attempt WHERE job_id IN ({ids})").all()
    return [str(row) for row in (*requests, *attempts)]


def test_what_was_planted_is_in_the_ledger(told: list[str]) -> None:
    """Else nothing would be shown by not finding it elsewhere."""
    rows = "\n".join(told)
    for kind in ("error", "result"):  # what a job prints is in its pod's log alone
        assert f"{kind} {MARKER}" in rows, kind


@pytest.mark.usefixtures("told")
def test_no_object_of_the_cluster_holds_a_secret(product: Product, cluster: Cluster, operator: str) -> None:
    secrets = secrets_of(product)
    kinds = "spokejobs,jobs,pods,events,configmaps,podtemplates,leases,deployments,replicasets,serviceaccounts,services"
    for namespace in (product.namespace, operator):
        found = cluster.get("--namespace", namespace, kinds)
        assert found
        assert {item["kind"] for item in found["items"]} >= {"Pod", "ConfigMap"}
        for item in found["items"]:
            text = json.dumps(item)
            held = [name for name, value in secrets.items() if value in text]
            assert held == [], f"{item['kind']} {item['metadata']['name']} holds {held}"


@pytest.mark.usefixtures("told")
def test_no_log_of_ours_holds_a_secret(product: Product, cluster: Cluster, operator: str) -> None:
    secrets = secrets_of(product)
    seen = set()
    for namespace, pod, container in containers(product, cluster, operator):
        log = cluster.kubectl("--namespace", namespace, "logs", pod, "--container", container)
        held = [name for name, value in secrets.items() if value in log]
        assert held == [], f"the log of {pod} in {namespace} holds {held}"
        if log:
            seen.add(container)
    assert {"operator", "sync", "tasks"} <= seen


def secrets_of(product: Product) -> dict[str, str]:
    """What must be seen nowhere, by what it is."""
    url = secret(product.cluster, product.namespace, f"{product.release}-database", "url")
    password = make_url(url).password
    assert password
    return {
        "what was planted": MARKER,
        "the database's URL": url,
        "its password": password,
        "the tasks' key": product.tasks_key,
    }


def containers(product: Product, cluster: Cluster, operator: str) -> Iterator[tuple[str, str, str]]:
    """Namespace, pod and container of every process of ours that is not a job."""
    for namespace in (product.namespace, operator):
        found = wait_for("pods", lambda: cluster.get("--namespace", namespace, "pods"))  # noqa: B023
        for pod in found["items"]:
            if pod["metadata"]["labels"].get("jobs.spoke.dev/uid") or pod["status"]["phase"] == "Pending":
                continue
            for container in pod["spec"]["containers"]:
                yield namespace, pod["metadata"]["name"], container["name"]
