"""Installing, uninstalling, and what each service account may do."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from .conftest import Cluster, Images, Product, image_values


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"e2e-helm-{uuid.uuid4().hex[:6]}"
    cluster.namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.usefixtures("product")
def test_uninstalling_keeps_the_definition_and_every_spokejob(cluster: Cluster, images: Images, namespace: str) -> None:
    values = {"image": image_values(images.operator), "watchNamespaces": [namespace]}
    cluster.install("other", "charts/spoke-operator", namespace, values)
    body = {
        "apiVersion": "jobs.spoke.dev/v1",
        "kind": "SpokeJob",
        "metadata": {"name": "kept"},
        "spec": {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "kept", "suspend": True},
    }
    cluster.kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(body))
    cluster.run("helm", "uninstall", "other", "--namespace", namespace, "--wait", "--timeout=60s")
    assert cluster.get("crd", "spokejobs.jobs.spoke.dev")
    assert cluster.get("--namespace", namespace, "spokejob", "kept")
    cluster.install("other", "charts/spoke-operator", namespace, values)
    cluster.run("helm", "uninstall", "other", "--namespace", namespace, "--wait", "--timeout=60s")


@pytest.mark.usefixtures("product")
def test_an_operator_of_given_namespaces_has_no_cluster_role(cluster: Cluster) -> None:
    for kind in ("clusterroles", "clusterrolebindings"):
        found = cluster.get(kind, "--selector=app.kubernetes.io/part-of=spoke-jobs")
        assert found is None or found["items"] == []


def test_accounts_may_do_what_they_need_and_no_more(product: Product, operator: str) -> None:
    def may(account: str, verb: str, resource: str) -> bool:
        namespace = operator if account == "spoke-operator" else product.namespace
        kind, _, subresource = resource.partition("/")
        command = ["kubectl", "--namespace", product.namespace, "auth", "can-i", verb, kind, "--quiet"]
        command += [f"--as=system:serviceaccount:{namespace}:{account}", f"--subresource={subresource}"]
        return subprocess.run(command, env=product.cluster.env, check=False).returncode == 0

    allowed = [
        ("texting-runner", "create", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "list", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "patch", "spokejobs.jobs.spoke.dev/status"),
        ("spoke-operator", "create", "jobs.batch"),
    ]
    refused = [
        ("texting-runner", "get", "spokejobs.jobs.spoke.dev"),
        ("texting-runner", "list", "secrets"),
        ("texting-jobs", "create", "spokejobs.jobs.spoke.dev"),
        ("texting-tasks", "create", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "delete", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "create", "jobs.batch"),
        ("spoke-operator", "list", "secrets"),
        ("spoke-operator", "create", "pods"),
        ("spoke-operator", "update", "spokejobs.jobs.spoke.dev"),
    ]
    assert [right for right in allowed if not may(*right)] == []
    assert [right for right in refused if may(*right)] == []
