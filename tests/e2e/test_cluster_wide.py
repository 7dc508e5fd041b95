"""One operator for all namespaces, as the chart installs it by default, and what happens if its binding is deleted.

It serves whatever is on the cluster. Let no other tests use it meanwhile.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from tests.waiting import eventually

from spoke_jobs import registry
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.model import JobData
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import Cluster, Images, Product, image_values, installed
from .test_why import why_once

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

OPERATOR = "wide"
"""The operator's release."""


@pytest.fixture(scope="module")
def home(cluster: Cluster, images: Images) -> Iterator[str]:
    """The operator's namespace."""
    namespace = f"e2e-wide-system-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    install(cluster, images, namespace)
    yield namespace
    cluster.run("helm", "uninstall", OPERATOR, "--namespace", namespace)
    cluster.remove(namespace)


def install(cluster: Cluster, images: Images, home: str) -> None:
    # The name of what is cluster-scoped has the namespace's in it, so that a later run finds it.
    values = {"image": image_values(images.operator), "fullnameOverride": home}
    cluster.install(OPERATOR, "charts/spoke-operator", home, values)


@pytest.fixture(scope="module")
def tenant(cluster: Cluster, images: Images, home: str, texting_chart: str) -> Iterator[Product]:
    """An application in a namespace that the operator's installation does not name."""
    assert home
    namespace = f"e2e-wide-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    with installed(cluster, texting_chart, images.application, namespace, "e2e_jobs") as product:
        product.create_tables(e2e_jobs.metadata)
        yield product
    cluster.remove(namespace)


@pytest.fixture(scope="module")
def dispatching(tenant: Product) -> Iterator[KubernetesRunner]:
    runner = tenant.runner(registry.default)
    yield runner
    runner.close()


def test_every_namespace_is_served_and_a_namespace_is_paused_by_its_annotation(
    cluster: Cluster, tenant: Product, dispatching: KubernetesRunner
) -> None:
    assert tenant.ended(dispatching.dispatch_job(JobData("e2e_echo", "x"))).result == "x"
    other = f"e2e-wide-{uuid.uuid4().hex[:6]}"
    cluster.namespace(other)
    body = {
        "apiVersion": "jobs.spoke.dev/v1",
        "kind": "SpokeJob",
        "metadata": {"name": "alone", "namespace": other},
        "spec": {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "alone"},
    }
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(body))

    def seen() -> bool:
        found = cluster.get("--namespace", other, "spokejob", "alone") or {}
        return bool(found.get("status", {}).get("cause") == Cause.TEMPLATE_MISSING)

    eventually(seen, "a namespace that came later is served, too")
    cluster.remove(other)

    cluster.kubectl("annotate", "namespace", tenant.namespace, "jobs.spoke.dev/paused=the database moves")

    def published() -> bool:
        found = cluster.get("--namespace", tenant.namespace, "configmap", STATE_CONFIGMAP) or {}
        return "the database moves" in found.get("data", {}).get("state", "")

    eventually(published, "the operator knows of the pause")
    job = dispatching.dispatch_job(JobData("e2e_echo", "paused"))
    said = why_once(tenant, job, lambda said: Code.PAUSED in said)[Code.PAUSED]
    assert "the database moves" in said["text"]
    assert not tenant.pods(job)
    cluster.kubectl("annotate", "namespace", tenant.namespace, "jobs.spoke.dev/paused-")
    assert tenant.ended(job).result == "paused"
