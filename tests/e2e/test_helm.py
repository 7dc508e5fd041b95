"""Installing, uninstalling, and what each service account may do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from tests.exclusive import HEAVY, exclusive
from tests.waiting import eventually, patient

from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.cluster.rights import RIGHTS as RIGHTS_OF
from spoke_jobs.model import JobFilter, JobState
from spoke_jobs.registry import CHECK

from .conftest import DEFINITIONS, Cluster, Images, Object, Product, image_values


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"e2e-helm-{uuid.uuid4().hex[:6]}"
    cluster.namespace(name)
    yield name
    cluster.remove(name)


@pytest.mark.usefixtures("product")
def test_uninstalling_keeps_the_definition_and_every_spokejob(cluster: Cluster, images: Images, namespace: str) -> None:
    values = {"image": image_values(images.operator), "watchNamespaces": [namespace], "replicas": 0}
    body = {
        "apiVersion": "jobs.spoke.dev/v1",
        "kind": "SpokeJob",
        "metadata": {"name": "kept"},
        "spec": {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "kept", "suspend": True},
    }
    where = ("--namespace", namespace, "--wait", f"--timeout={patient(300):.0f}s")
    with exclusive(DEFINITIONS):  # another release would own what is kept
        cluster.install_holding_definitions("other", "charts/spoke-operator", namespace, values)
        cluster.kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(body))
        cluster.run("helm", "uninstall", "other", *where)
        assert cluster.get("crd", "spokejobs.jobs.spoke.dev")
        assert cluster.get("--namespace", namespace, "spokejob", "kept")
        # As docs/installing.md has it, and without a flag: what was kept is the release's own.
        again = ("helm", "install", "other", "charts/spoke-operator", *where, "--values=-")
        with exclusive(HEAVY):
            cluster.run(*again, stdin=json.dumps(values))
    cluster.run("helm", "uninstall", "other", *where)


def test_an_operator_of_given_namespaces_has_no_cluster_role(product: Product, operator: str) -> None:
    cluster = product.cluster
    for release, namespace in (("spoke-operator", operator), (product.release, product.namespace)):
        installed = cluster.run("helm", "get", "manifest", release, "--namespace", namespace)
        kinds = {item["kind"] for item in yaml.safe_load_all(installed) if item}
        assert "Role" in kinds
        assert not kinds & {"ClusterRole", "ClusterRoleBinding"}
    bindings = cluster.get("clusterrolebindings")
    assert bindings
    bound = {subject.get("namespace") for item in bindings["items"] for subject in item.get("subjects") or ()}
    assert not bound & {operator, product.namespace}


def test_two_replicas_of_which_one_leads(cluster: Cluster, operator: str) -> None:
    def leader() -> str:
        lease = cluster.get("--namespace", operator, "lease", "spoke-operator")
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    def pods() -> set[str]:
        found = cluster.get("--namespace", operator, "pods", "--selector=app.kubernetes.io/component=operator")
        return {pod["metadata"]["name"] for pod in (found or {"items": []})["items"]}

    eventually(lambda: leader() in pods(), "a leader by its pod's name")
    assert len(pods()) == 2


def test_helm_test_of_the_operator(cluster: Cluster, operator: str) -> None:
    notes = cluster.run("helm", "get", "notes", "spoke-operator", "--namespace", operator)
    assert first_command(notes) == f"helm test spoke-operator --namespace {operator}"
    said = cluster.run("helm", "test", "spoke-operator", "--namespace", operator, f"--timeout={patient(300):.0f}s")
    assert "Phase:          Succeeded" in said
    assert cluster.get("--namespace", operator, "pod", "spoke-operator-test") is None


def test_helm_test_of_an_application_runs_a_job_to_its_end(product: Product) -> None:
    product.cluster.run("helm", "test", "texting", "--namespace", product.namespace, f"--timeout={patient(300):.0f}s")
    (row,) = product.ledger.list_jobs(1, JobFilter(job_type=CHECK))
    assert (row.state, row.runner, row.attempt) == (JobState.SUCCEEDED, "kubernetes", 1)
    assert product.spokejob(row, "Succeeded")


def test_check_in_the_sync_pod_finds_nothing_missing(product: Product) -> None:
    said = product.kubectl("exec", "deployment/texting-sync", "--", "spoke-jobs", "check", "--as", "sync", "--json")
    (rights,) = (look["said"] for look in json.loads(said)["cluster"] if look["name"] == "rights")
    assert rights == f"sync: {', '.join(map(str, RIGHTS_OF[Account.SYNC]))}"


def first_command(notes: str) -> str:
    return next(line.strip() for line in notes.splitlines() if line.startswith("  "))


RIGHTS = Path(__file__).parent / "rights.txt"
ACCOUNTS = [
    ("default", "jobs", "jobs"),
    ("texting-jobs", "jobs", "jobs"),
    ("texting-tasks", "jobs", "jobs"),
    ("texting-runner", "jobs", "jobs"),
    ("texting-sync", "jobs", "jobs"),
    ("spoke-operator", "operator", "jobs"),
    ("spoke-operator", "operator", "operator"),
    ("spoke-operator", "operator", "default"),
    ("spoke-operator-test", "operator", "jobs"),
    ("spoke-operator-test", "operator", "operator"),
    ("tokens-spoke-app-tasks", "jobs", "jobs"),
    ("whole-spoke-operator", "operator", "jobs"),
    ("whole-spoke-operator", "operator", "operator"),
    ("whole-spoke-operator", "operator", "default"),
]
"""Each service account: its name, its namespace, and the namespace in which it is asked for its rights. Of the releases
``tokens`` (an application whose tasks go by tokens) and ``whole`` (the operator of the whole cluster) there are but the
rules. The account of the operator's ``helm test`` is bound to none."""


@contextmanager
def rules_of(cluster: Cluster, release: str, chart: str, namespace: str, values: Object) -> Iterator[None]:
    """The roles and bindings of a release of which nothing else is installed: RBAC knows accounts by their names."""
    render = ("helm", "template", release, f"charts/{chart}", "--namespace", namespace, "--kube-version=1.31.0")
    rules = cluster.run(*render, "--show-only=templates/rbac.yaml", "--values=-", stdin=json.dumps(values))
    cluster.kubectl("apply", "--filename=-", stdin=rules)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "--filename=-", stdin=rules)


def test_accounts_may_do_what_is_written_down_and_no_more(product: Product, operator: str) -> None:
    names = {"jobs": product.namespace, "operator": operator, "default": "default"}
    whole = f"whole-{operator}"  # the name of cluster-scoped objects, which another run has, too
    alias = {f"[{product.namespace}]": "[jobs]", f"[{whole}]": "[whole-spoke-operator]"}

    def rights(account: str, home: str, within: str) -> set[str]:
        name = whole if account == "whole-spoke-operator" else account
        who = f"--as=system:serviceaccount:{names[home]}:{name}"
        listed = product.cluster.kubectl("auth", "can-i", "--list", who, "--namespace", names[within])
        lines = {" ".join(alias.get(word, word) for word in line.split()) for line in listed.splitlines()[1:]}
        # Other tests make PodTemplates of their own, which the jobs' account may run.
        return {line for line in lines if not line.endswith("[run]") or "[default]" in line}

    text = ""

    def is_as_written() -> bool:
        nonlocal text
        everybodys = rights("nobody", "jobs", "jobs")  # as the cluster gives them to any account
        found = ["\n".join(["# every account", *sorted(everybodys)])]
        for account, home, within in ACCOUNTS:
            own = rights(account, home, within)
            assert everybodys <= own
            who = f"# {account} of namespace {home}, in namespace {within}"
            found.append("\n".join([who, *sorted(own - everybodys)]))
        text = "\n\n".join(found) + "\n"
        return text == RIGHTS.read_text()

    tokens = {
        "app": "shop.jobs",
        "image": {"repository": "shop"},
        "database": {"secretName": "database"},
        "tasks": {"key": {"secretName": "tasks"}, "tokens": {"enabled": True}},
    }
    with ExitStack() as stack:
        stack.enter_context(rules_of(product.cluster, "tokens", "spoke-app", product.namespace, tokens))
        everywhere = {"fullnameOverride": whole}
        stack.enter_context(rules_of(product.cluster, "whole", "spoke-operator", operator, everywhere))
        try:
            eventually(is_as_written, "the rules that have just been made count")
        except AssertionError:
            raise AssertionError(f"if it is meant to be so, {RIGHTS.name} is now:\n{text}") from None
