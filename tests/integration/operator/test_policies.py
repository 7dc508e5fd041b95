"""docs/how-to/policies.md: under its policies a job runs, or waits with the policy's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from kubernetes.client import ApiException
from tests.integration.operator.conftest import ROOT, Cluster, Object, OperatorProcess, limited_kubeconfig
from tests.unit.explain.situations import a_job
from tests.waiting import eventually

from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.labels import label_value
from spoke_jobs.contract.names import GROUP, VERSION
from spoke_jobs.model import JobOptions

PAGE = ROOT / "docs/how-to/policies.md"
LIMITS = {"resources": {"limits": {"memory": "64Mi"}}}
TEAM = {"team": "payments"}
UNLABELED = "dispatch the job with the label team"
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def policies_of(page: str, registry: str) -> list[Object]:
    """The page's policies, for images of that registry."""
    (block,) = (text for text in re.findall(r"```yaml\n(.*?)```", page, re.S) if "ValidatingAdmissionPolicy" in text)
    return list(yaml.safe_load_all(block.replace("registry.example/", registry)))


@pytest.fixture
def ruled(apart: Cluster) -> Iterator[Cluster]:
    """A namespace in which the page's policies are in force."""
    client = kubernetes.client.AdmissionregistrationV1Api(apart.api)
    made = []
    for policy in policies_of(PAGE.read_text(), apart.image.rpartition(":")[0] + ":"):
        name = f"{policy['metadata']['name']}-{apart.namespace}"
        here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": apart.namespace}}}
        spec = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
        client.create_validating_admission_policy(policy | {"metadata": {"name": name}})
        client.create_validating_admission_policy_binding({"metadata": {"name": name}, "spec": spec})
        made.append(name)
    eventually(lambda: in_force(apart), "the policies are in force")
    yield apart
    for name in made:
        client.delete_validating_admission_policy_binding(name)
        client.delete_validating_admission_policy(name)


def in_force(cluster: Cluster) -> bool:
    """Whether each of them refuses a pod that breaks its rule alone: of several, the API server names any one."""

    def refusal(labels: Mapping[str, str], limits: Mapping[str, Any]) -> str:
        container = {"name": "job", "image": cluster.image, "securityContext": UNPRIVILEGED, **limits}
        spec = {"containers": [container], "securityContext": RESTRICTED}
        body = {"metadata": {"generateName": "dry-", "labels": dict(labels)}, "spec": spec}
        try:
            cluster.core.create_namespaced_pod(cluster.namespace, body, dry_run="All")
        except ApiException as error:
            return str(error.body)
        return ""

    of_pods = "set the label team" in refusal({}, LIMITS) and "set a memory limit" in refusal(TEAM, {})
    return of_pods and UNLABELED in refusal_of_a_dispatch(cluster, {})


def refusal_of_a_dispatch(cluster: Cluster, labels: Mapping[str, str]) -> str:
    """What the API server says about the SpokeJob of a dispatch with these labels; empty if it accepts it."""
    job = a_job(runner="kubernetes", options=JobOptions(labels=dict(labels)))
    body = spokejob(job, cluster.namespace)
    try:
        cluster.custom.create_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, Kind.SPOKEJOB.plural, body, dry_run="All", field_validation="Strict"
        )
    except ApiException as error:
        return str(error.body)
    return ""


@pytest.fixture
def operator(ruled: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator of that namespace."""
    process = OperatorProcess(limited_kubeconfig(ruled, tmp_path), ruled.namespace, tmp_path / "operator.log")
    process.start()
    yield process
    if process.running:
        assert process.stop() == 0
    print((tmp_path / "operator.log").read_text())


def template(cluster: Cluster, labels: Object, container: Object, volumes: list[Object] | None = None) -> Object:
    """A PodTemplate as it is created."""
    job = {"name": "job", "image": cluster.image, "env": [{"name": "STANDIN", "value": "sleep-2"}], **container}
    spec: Object = {"containers": [job], "terminationGracePeriodSeconds": 5}
    if volumes:
        spec["volumes"] = volumes
    return {
        "metadata": {"name": "default", "labels": {"jobs.spoke.dev/template": "true"}},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }


def test_a_spokejob_has_the_labels_of_its_dispatch(ruled: Cluster) -> None:
    assert UNLABELED in refusal_of_a_dispatch(ruled, {"cost-center": "7"})
    assert refusal_of_a_dispatch(ruled, TEAM) == ""


@pytest.mark.usefixtures("operator")
def test_a_job_that_keeps_every_rule_succeeds_and_is_found_by_its_labels(ruled: Cluster) -> None:
    ruled.core.create_namespaced_pod_template(ruled.namespace, template(ruled, TEAM, LIMITS))
    name = ruled.submit("default", TEAM, queue="12:edit", organization=3)
    ruled.until(name, lambda status: status.get("outcome") == "Running")
    selector = (
        f"team=payments,jobs.spoke.dev/type=standin,jobs.spoke.dev/queue={label_value('12:edit')},"
        "jobs.spoke.dev/organization=3,app.kubernetes.io/name=spoke-job,app.kubernetes.io/managed-by=spoke-operator"
    )
    for listed in (ruled.batch.list_namespaced_job, ruled.core.list_namespaced_pod):
        assert len(listed(ruled.namespace, label_selector=selector).items) == 1
    assert ruled.until_final(name)["outcome"] == "Succeeded"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"labels": {}}, "set the label team"),
        ({"container": LIMITS | {"image": "busybox:1"}}, "use images of"),
        ({"container": LIMITS | {"image": "LATEST"}}, "other than latest"),
        ({"container": {}}, "set a memory limit"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/etc"}}]}, "hostPath"),
    ],
    ids=["labels", "registry", "latest", "limits", "hostPath"],
)
@pytest.mark.usefixtures("operator")
def test_a_job_that_breaks_a_rule_waits_with_the_policy_s_words(ruled: Cluster, broken: Any, words: str) -> None:
    container = broken.get("container", LIMITS)
    if container.get("image") == "LATEST":
        container = container | {"image": f"{ruled.image.rpartition(':')[0]}:latest"}
    made = template(ruled, broken.get("labels", TEAM), container, broken.get("volumes"))
    ruled.core.create_namespaced_pod_template(ruled.namespace, made)
    name = ruled.submit("default", TEAM, startTimeoutSeconds=300)
    status = ruled.until(name, lambda status: status.get("cause") == "PodRejected")
    assert words in json.dumps(status["conditions"]), status
    assert not status.get("charged")
    if "labels" not in broken:
        return
    right = template(ruled, TEAM, LIMITS)
    ruled.core.replace_namespaced_pod_template("default", ruled.namespace, right)
    assert ruled.until_final(name)["outcome"] == "Succeeded"
