"""Installing, uninstalling, and what each service account may do."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from .conftest import Cluster, Images, Product, image_values, wait_for


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


def test_two_replicas_of_which_one_leads(cluster: Cluster, operator: str) -> None:
    def leader() -> str:
        lease = cluster.get("--namespace", operator, "lease", "spoke-operator")
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    def pods() -> set[str]:
        found = cluster.get("--namespace", operator, "pods", "--selector=app.kubernetes.io/component=operator")
        return {pod["metadata"]["name"] for pod in (found or {"items": []})["items"]}

    first = wait_for("a leader by its pod's name", lambda: leader() if leader() in pods() else None)
    assert len(pods()) == 2
    cluster.kubectl("--namespace", operator, "delete", "pod", first, "--wait=false")
    second = wait_for("another to lead", lambda: leader() if leader() not in ("", first) else None, 20)
    assert second in pods()
    cluster.kubectl("--namespace", operator, "rollout", "status", "deployment/spoke-operator", "--timeout=60s")


def test_accounts_may_do_what_they_need_and_no_more(product: Product, operator: str) -> None:
    def may(account: str, verb: str, resource: str, within: str = "") -> bool:
        namespace = operator if account == "spoke-operator" else product.namespace
        kind, _, subresource = resource.partition("/")
        kind, _, name = kind.partition(":")
        what = f"{kind}/{name}" if name else kind
        command = ["kubectl", "--namespace", within or product.namespace, "auth", "can-i", verb, what, "--quiet"]
        command += [f"--as=system:serviceaccount:{namespace}:{account}", f"--subresource={subresource}"]
        return subprocess.run(command, env=product.cluster.env, check=False).returncode == 0

    allowed = [
        ("texting-runner", "create", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "list", "spokejobs.jobs.spoke.dev"),
        ("texting-sync", "patch", "spokejobs.jobs.spoke.dev/status"),
        ("spoke-operator", "create", "jobs.batch"),
        ("spoke-operator", "create", "configmaps:spoke-operator-state"),
        ("spoke-operator", "patch", "configmaps:spoke-operator-state"),
        ("spoke-operator", "update", "leases.coordination.k8s.io:spoke-operator", operator),
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
        ("spoke-operator", "create", "configmaps"),
        ("spoke-operator", "get", "configmaps:spoke-operator-state"),
        ("spoke-operator", "create", "leases.coordination.k8s.io"),
        ("spoke-operator", "update", "leases.coordination.k8s.io:other", operator),
    ]
    assert [right for right in allowed if not may(*right)] == []
    assert [right for right in refused if may(*right)] == []
