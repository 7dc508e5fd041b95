"""What the application entrusts to us is seen nowhere but in its database. Looked for after all other tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from tests.leftovers import RUN, RUN_LABEL
from tests.waiting import eventually

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import JobData
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import PROCESS, PROCESS_LABEL, Cluster, Product, secret

pytestmark = pytest.mark.timeout(900)

MARKER = e2e_jobs.MARKER
"""Planted in payloads, results, exceptions and output. (What a job says of its progress is for everybody to read.)"""
ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))


@pytest.fixture(scope="module")
def told(product: Product, runner: KubernetesRunner) -> list[str]:
    """Jobs and tasks that were given secrets and leave them wherever they can, at each of their ends; their rows."""
    fails = {"secret": MARKER, "fails": True}
    jobs = [
        runner.dispatch_job(JobData("e2e_tells", {"secret": MARKER})),
        runner.dispatch_job(JobData("e2e_tells", fails)),
        runner.dispatch_job(JobData("e2e_tells", fails | {"lasts": True}, timeout_seconds=15, retry=ONCE)),
        runner.dispatch_job(JobData("e2e_tells", fails | {"lasts": True})),
    ]
    runner.dispatch_task("e2e_is_told", {"secret": MARKER})
    other_release = Registry()  # which takes what the pods' doesn't
    other_release.job("e2e_tells")(lambda _ctx, _payload: None)
    other_release.task("e2e_is_told")(lambda _ctx, _payload: None)
    other_runner = product.runner(other_release)
    jobs.append(other_runner.dispatch_job(JobData("e2e_tells", {"misspelt": MARKER})))
    other_runner.dispatch_task("e2e_is_told", {"misspelt": MARKER})
    with Session(product.engine) as session, session.begin():
        runner.dispatch_task("e2e_is_told", {"secret": MARKER}, session=session)
        other_runner.dispatch_task("e2e_is_told", {"misspelt": MARKER}, session=session)
    other_runner.close()
    eventually(lambda: product.row(jobs[3]).result_message == "told", "it has told")
    product.ledger.cancel(jobs[3].id)
    ends = [product.ended(job).cause for job in jobs]
    assert ends == ["", "JobError", "Timeout", "Cancelled", "InvalidPayload"]
    tasks = eventually(lambda: failed if (failed := ended_tasks(product)) else None, "the tasks have run")
    ids = ", ".join(str(job.id) for job in jobs)
    with product.engine.connect() as connection:
        requests = connection.exec_driver_sql(f"SELECT * FROM job_request WHERE id IN ({ids})").all()
        attempts = connection.exec_driver_sql(f"SELECT * FROM job_attempt WHERE job_id IN ({ids})").all()
    return [*(str(row) for row in (*requests, *attempts)), *tasks]


def ended_tasks(product: Product) -> list[str]:
    """Once both of the tasks that were told have run: the rows of those that failed."""
    run, outbox = e2e_jobs.task_run, task_outbox
    with product.engine.connect() as connection:
        ran = connection.scalar(select(func.count()).select_from(run).where(run.c.number == e2e_jobs.TOLD))
        failed = connection.execute(select(outbox).where(outbox.c.name == "e2e_is_told", outbox.c.state == "failed"))
        rows = [str(row) for row in failed]
    return rows if ran == 2 else []


def test_what_was_planted_is_in_the_ledger(told: list[str]) -> None:
    """Else nothing would be shown by not finding it elsewhere."""
    rows = "\n".join(told)
    for kind in ("error", "result"):  # what a job prints is in its pod's log alone
        assert f"{kind} {MARKER}" in rows, kind


@pytest.mark.usefixtures("told")
def test_no_object_of_the_cluster_holds_a_secret(cluster: Cluster, places: list[str]) -> None:
    secrets = secrets_of(cluster, places)
    kinds = "spokejobs,jobs,pods,events,configmaps,podtemplates,leases,deployments,replicasets,serviceaccounts,services"
    seen = set()
    for namespace in places:
        found = cluster.get("--namespace", namespace, kinds)
        for item in (found or {"items": []})["items"]:
            text = json.dumps(item)
            held = [name for name, value in secrets.items() if value in text]
            assert held == [], f"{item['kind']} {item['metadata']['name']} of {namespace} holds {held}"
            seen.add(item["kind"])
    assert seen >= {"SpokeJob", "Job", "Pod", "Event", "ConfigMap", "PodTemplate", "Lease"}


@pytest.mark.usefixtures("told")
def test_no_log_of_ours_holds_a_secret(cluster: Cluster, places: list[str]) -> None:
    secrets = secrets_of(cluster, places)
    seen = set()
    for namespace, pod, container, previous in containers(cluster, places):
        which = (pod, "--container", container, f"--previous={str(previous).lower()}")
        log = cluster.kubectl("--namespace", namespace, "logs", *which)
        held = [name for name, value in secrets.items() if value in log]
        assert held == [], f"the log of {pod} in {namespace} holds {held}"
        if log:
            seen.add(container)
    assert {"operator", "sync", "tasks"} <= seen


@pytest.fixture
def places(cluster: Cluster, product: Product, operator: str) -> list[str]:
    """The namespaces of all tests that ran in this process, unless they are being deleted."""
    found = cluster.get("namespaces", f"--selector={RUN_LABEL}={RUN},{PROCESS_LABEL}={PROCESS}")
    assert found
    names = [item["metadata"]["name"] for item in found["items"] if item["status"]["phase"] == "Active"]
    assert {product.namespace, operator} <= set(names)
    return names


def secrets_of(cluster: Cluster, places: list[str]) -> dict[str, str]:
    """What must be seen nowhere, by what it is."""
    secrets = {"what was planted": MARKER}
    for namespace in places:
        if cluster.get("--namespace", namespace, "secret", "texting-database"):
            url = secret(cluster, namespace, "texting-database", "url")
            password = make_url(url).password
            assert password
            key = secret(cluster, namespace, "texting-tasks-key", "key")
            found = {"the database's URL": url, "its password": password, "the tasks' key": key}
            secrets |= {f"{name} of {namespace}": value for name, value in found.items()}
    assert len(secrets) > 1
    return secrets


def containers(cluster: Cluster, places: list[str]) -> Iterator[tuple[str, str, str, bool]]:
    """Namespace, pod and container of each process of ours that is not a job; also of one before it that ended."""
    for namespace in places:
        for pod in (cluster.get("--namespace", namespace, "pods") or {"items": []})["items"]:
            if pod["metadata"].get("labels", {}).get("jobs.spoke.dev/uid") or pod["status"]["phase"] == "Pending":
                continue
            for status in pod["status"]["containerStatuses"]:
                yield namespace, pod["metadata"]["name"], status["name"], False
                if status["lastState"]:
                    yield namespace, pod["metadata"]["name"], status["name"], True
