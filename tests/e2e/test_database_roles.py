"""A job's pod under the database role of pods can do its work, and change nothing that only others may."""

from __future__ import annotations

import copy
import json

import pytest
from sqlalchemy.engine import make_url
from tests.contract.refused_statements import NO_JOB, NOBODY

from spoke_jobs import JobData
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.model import JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from .conftest import Product, secret

ROLE = "pods_of_one_template"
PODS_ROLE = "pods-role"


@pytest.fixture(scope="module")
def pods_role(product: Product) -> str:
    """A PodTemplate whose pods have the database role of pods."""
    with product.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
    migrate(product.engine, roles={Process.JOBS: ROLE})
    inside = make_url(secret(product.cluster, product.namespace, f"{product.release}-database", "url"))
    url = inside.set(username=ROLE, password=ROLE).render_as_string(hide_password=False)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pods-database"}, "stringData": {"url": url}}
    product.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    template = copy.deepcopy(product.get("podtemplate", "default"))
    assert template
    template["metadata"] = {"name": PODS_ROLE, "labels": template["metadata"]["labels"]}
    (container,) = template["template"]["spec"]["containers"]
    (variable,) = (item for item in container["env"] if item["name"] == "SPOKE_DATABASE_URL")
    variable["valueFrom"]["secretKeyRef"] = {"name": "pods-database", "key": "url"}
    product.apply_template(template)
    return PODS_ROLE


def test_a_pod_with_the_pods_role_cannot_change_what_only_others_may(
    product: Product, runner: KubernetesRunner, pods_role: str
) -> None:
    statements = [*NOBODY, *NO_JOB]
    job = runner.dispatch_job(JobData("e2e_tries_statements", statements, pod_template=pods_role))
    ended = product.ended(job)
    assert (ended.state, ended.result, ended.result_message) == (JobState.SUCCEEDED, [], "half-way")
    (child,) = (found for found in product.ledger.list_jobs() if found.job_type == "e2e_echo" and found.payload == "7")
    assert product.ended(child).state is JobState.SUCCEEDED


def test_a_row_that_such_a_pod_forges_is_refused_by_sync(
    product: Product, runner: KubernetesRunner, pods_role: str
) -> None:
    """It asks for a PodTemplate that is not for its type. What the operator refuses is in `test_admission`."""
    template = copy.deepcopy(product.get("podtemplate", "default"))
    assert template
    labels, annotations = template["metadata"]["labels"], {"jobs.spoke.dev/allowed-types": "e2e_report"}
    template["metadata"] = {"name": "not-for-echo", "labels": labels, "annotations": annotations}
    product.apply_template(template)
    forger = product.ended(runner.dispatch_job(JobData("e2e_forges", "not-for-echo", pod_template=pods_role)))
    assert forger.state is JobState.SUCCEEDED, forger
    assert isinstance(forger.result, int)
    forged = product.ledger.get(forger.result)
    assert forged is not None
    ended = product.ended(forged)
    assert (ended.state, ended.cause, ended.attempt) == (JobState.FAILED, "TypeNotAllowed", 0)
    assert product.get("spokejob", name_of(ended)) is None
