"""Who reaches whom in the cluster: every pair of a pod and a target is tried, those that NetworkPolicies deny as well.

Each target is reached by somebody in each of these tests' tables, so none passes because the target is down; the job
that nobody may reach, by itself.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.exclusive import exclusive
from tests.waiting import eventually, patient

from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import NODE_THAT_STOPS, WATCHER, Cluster, Object, Product, image_values

CODE = (Path(__file__).parent / "connecting.py").read_text()
Targets = dict[str, tuple[str, int]]

ALLOWED = {
    "operator": {"api server"},
    "operator's test": {"api server", "operator"},
    "sync": {"api server", "database"},
    "job": {"database", "tasks"},
    "tasks": {"database", "tasks", "carrier"},
    "migrations": {"database"},
    "application's test": {"database"},
    "application": {"api server", "database", "tasks", "carrier", "web"},
    "watcher": {"api server", "database", "tasks", "sync", "carrier", "web"},
    "stranger": {"api server", "database", "carrier", "web"},
    "stranger elsewhere": {"api server", "database", "carrier", "web"},
}
"""By pod. What is under no policy of the charts (database, carrier, web: the example's own) is open to those who are
under none either: that they get there shows that the others could. A job is a target that nobody reaches."""


@pytest.fixture(scope="module")
def listening(product: Product, runner: KubernetesRunner) -> Iterator[str]:
    """The address of a job's pod that takes connections: it reaches itself, which no policy is asked about."""
    job = runner.dispatch_job(JobData("e2e_listens", 8080))
    eventually(lambda: product.row(job).result_message == "listens", "it listens")
    pod = product.running_pod(job)
    here = {"a job": (pod["status"]["podIP"], 8080)}
    assert said_within(product.cluster, pod, [json.dumps(here), json.dumps(["a job"])]) == {"a job"}
    yield str(pod["status"]["podIP"])
    product.ledger.cancel(job.id)
    product.ended(job)


@pytest.fixture(scope="module")
def targets(product: Product, operator: str, listening: str) -> Targets:
    here = f"{product.namespace}.svc.cluster.local"
    return {
        "api server": ("kubernetes.default.svc.cluster.local", 443),
        "operator": (address(product.cluster, operator, "app.kubernetes.io/component=operator"), 8080),
        "database": (f"texting-database.{here}", 5432),
        "tasks": (f"texting-tasks.{here}", 8080),
        "sync": (address(product.cluster, product.namespace, "app.kubernetes.io/component=sync"), 8080),
        "carrier": (f"texting-carrier.{here}", 8090),
        "web": (f"texting.{here}", 80),
        "a job": (listening, 8080),
    }


def address(cluster: Cluster, namespace: str, selector: str) -> str:
    """Of the first running pod."""
    return str(running(cluster, namespace, selector)[0]["status"]["podIP"])


def running(cluster: Cluster, namespace: str, selector: str) -> list[Object]:
    """The pods that run, by name."""
    which = ("--selector", selector, "--field-selector=status.phase=Running")
    found = cluster.get("--namespace", namespace, "pods", *which)
    assert found
    return sorted(found["items"], key=lambda item: str(item["metadata"]["name"]))


def arguments(source: str, targets: Targets) -> list[str]:
    return [json.dumps(targets), json.dumps(sorted(ALLOWED[source]))]


@pytest.mark.parametrize(("source", "component"), [("sync", "sync"), ("tasks", "tasks"), ("application", "web")])
def test_from_what_is_installed(product: Product, targets: Targets, source: str, component: str) -> None:
    pod = running(product.cluster, product.namespace, f"app.kubernetes.io/component={component}")[0]
    others = dict(targets)
    if source == "sync":
        del others["sync"]  # a pod always reaches itself
    assert said_within(product.cluster, pod, arguments(source, others)) == ALLOWED[source]


def test_from_one_replica_of_the_operator_to_the_other(product: Product, operator: str, targets: Targets) -> None:
    _, other = running(product.cluster, operator, "app.kubernetes.io/component=operator")
    assert said_within(product.cluster, other, arguments("operator", targets)) == ALLOWED["operator"]


def said_within(cluster: Cluster, pod: Object, arguments: list[str]) -> set[str]:
    """What the program says in a pod that is there."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    command = ("exec", "--stdin", name, "--", "python", "-", *arguments)
    return set(json.loads(cluster.kubectl("--namespace", namespace, *command, stdin=CODE)))


def test_from_a_jobs_pod(product: Product, runner: KubernetesRunner, targets: Targets) -> None:
    payload = e2e_jobs.Connect(targets=targets, expected=sorted(ALLOWED["job"]))
    row = product.ended(runner.dispatch_job(JobData("e2e_connects", payload)))
    assert row.state is JobState.SUCCEEDED, row
    assert set(row.result) == ALLOWED["job"]


POLICIES = {"operator's test": "spoke-operator-test", "application's test": "texting-test"}
"""Of pods that are there for a moment only."""
ANOTHER_NODE = {
    "nodeSelector": {"kubernetes.io/hostname": NODE_THAT_STOPS},
    "tolerations": [{"key": "spoke.test/stops", "operator": "Exists"}],
}
"""The worker where none of the targets runs, so that all that its pod reaches or doesn't is across nodes."""
SOURCES = [
    "stranger",
    "watcher",
    "stranger elsewhere",
    "operator's test",
    "application's test",
]


@pytest.mark.parametrize("source", SOURCES)
def test_from_a_pod_of_somebody_else(
    product: Product, operator: str, elsewhere: str, targets: Targets, source: str
) -> None:
    namespace = {"stranger elsewhere": elsewhere, "operator's test": operator}.get(source, product.namespace)
    labels = WATCHER if source == "watcher" else {}
    if source in POLICIES:
        labels = labels_under(product.cluster, namespace, POLICIES[source])
    if source != "stranger elsewhere":
        assert said_by_pod(product, namespace, labels, arguments(source, targets), {}) == ALLOWED[source]
        return
    with exclusive(NODE_THAT_STOPS):
        assert said_by_pod(product, namespace, labels, arguments(source, targets), ANOTHER_NODE) == ALLOWED[source]


def labels_under(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """Those by which a NetworkPolicy knows its pods."""
    policy = cluster.get("--namespace", namespace, "networkpolicy", name)
    assert policy
    labels: dict[str, str] = policy["spec"]["podSelector"]["matchLabels"]
    return labels


def said_by_pod(
    product: Product, namespace: str, labels: dict[str, str], arguments: list[str], where: Object
) -> set[str]:
    """What the program says in a pod of its own, which enforces `restricted` like any other."""
    web = product.get("deployment", "texting")
    assert web
    name = f"connecting-{uuid.uuid4().hex[:6]}"
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "connecting",
        "image": web["spec"]["template"]["spec"]["containers"][0]["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", CODE, *arguments],
        "securityContext": restricted,
    }
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            **where,
        },
    }
    kubectl = product.cluster.kubectl
    kubectl("create", "--filename=-", stdin=json.dumps(pod))
    try:
        ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}"
        kubectl("--namespace", namespace, "wait", ended, f"pod/{name}", f"--timeout={patient(300):.0f}s")
        return set(json.loads(kubectl("--namespace", namespace, "logs", name).splitlines()[0]))
    finally:
        kubectl("--namespace", namespace, "delete", "pod", name, "--wait=false")


def test_from_migrations(product: Product, targets: Targets) -> None:
    """A step of a release's own, since migrations and their policy are gone once they have succeeded."""
    web = product.get("deployment", "texting")
    assert web
    step = {"name": "connecting", "command": ["python", "-c", CODE, *arguments("migrations", targets)]}
    values = {
        "app": "e2e_jobs",
        "image": image_values(web["spec"]["template"]["spec"]["containers"][0]["image"]),
        "database": {"secretName": "texting-database"},
        "podTemplates": {"default": None, "of-migrations": {}},
        "sync": {"enabled": False},
        "tasks": {"enabled": False},
        "migrations": {"steps": [step]},
    }
    where = ("--namespace", product.namespace)
    try:
        product.cluster.install("migrating", "charts/spoke-app", product.namespace, values)
        assert product.get("networkpolicy", "migrating-spoke-app-migrations") is None, "a hook's policy stays behind"
    finally:
        product.cluster.run("helm", "uninstall", "migrating", *where, "--wait", f"--timeout={patient(300):.0f}s")
