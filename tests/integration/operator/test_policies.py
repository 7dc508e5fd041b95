"""docs/how-to/policies.md: under its policies a job runs, or waits with the policy's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes
import pytest
import yaml
from kubernetes.client import ApiException
from tests.integration.operator.conftest import ROOT, Cluster, Object, OperatorProcess
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
    of_pods = "set the label team" in refusal(cluster, {}, LIMITS) and "set a memory limit" in refusal(
        cluster, TEAM, {}
    )
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


def pod(cluster: Cluster, labels: Mapping[str, str], container: Mapping[str, Any], **more: Any) -> Object:
    """The metadata and the spec of a job's pod."""
    job = {"name": "job", "image": cluster.image, "env": [{"name": "STANDIN", "value": "sleep-2"}], **container}
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {"containers": [job], "terminationGracePeriodSeconds": 5} | more,
    }


def refusal(cluster: Cluster, labels: Mapping[str, str], container: Mapping[str, Any], **more: Any) -> str:
    """What the API server says about such a pod; empty if it accepts it."""
    made = pod(cluster, labels, {"securityContext": UNPRIVILEGED, **container}, securityContext=RESTRICTED, **more)
    made["metadata"]["generateName"] = "dry-"
    try:
        cluster.core.create_namespaced_pod(cluster.namespace, made, dry_run="All")
    except ApiException as error:
        return str(error.body)
    return ""


def test_each_policy_refuses_and_a_job_waits_with_its_words_and_runs_once_it_keeps_every_rule(
    ruled: Cluster, own: OperatorProcess
) -> None:
    assert UNLABELED in refusal_of_a_dispatch(ruled, {"cost-center": "7"})
    assert refusal_of_a_dispatch(ruled, TEAM) == ""
    latest = {"image": f"{ruled.image.rpartition(':')[0]}:latest"}
    assert "use images of" in refusal(ruled, TEAM, LIMITS | {"image": "busybox:1"})
    assert "other than latest" in refusal(ruled, TEAM, LIMITS | latest)
    assert "hostPath" in refusal(ruled, TEAM, LIMITS, volumes=[{"name": "host", "hostPath": {"path": "/etc"}}])
    assert refusal(ruled, TEAM, LIMITS) == ""

    own.start()

    def template(labels: Mapping[str, str]) -> Object:
        metadata = {"name": "default", "labels": {"jobs.spoke.dev/template": "true"}}
        return {"metadata": metadata, "template": pod(ruled, labels, LIMITS)}

    ruled.core.create_namespaced_pod_template(ruled.namespace, template({}))
    name = ruled.submit("default", TEAM, queue="12:edit", organization=3, startTimeoutSeconds=300)
    status = ruled.until(name, lambda status: status.get("cause") == "PodRejected")
    assert "set the label team" in json.dumps(status["conditions"]), status
    assert not status.get("charged")
    ruled.core.replace_namespaced_pod_template("default", ruled.namespace, template(TEAM))
    ruled.until(name, lambda status: status.get("outcome") == "Running")
    selector = (
        f"team=payments,jobs.spoke.dev/type=standin,jobs.spoke.dev/queue={label_value('12:edit')},"
        "jobs.spoke.dev/organization=3,app.kubernetes.io/name=spoke-job,app.kubernetes.io/managed-by=spoke-operator"
    )
    assert len(ruled.core.list_namespaced_pod(ruled.namespace, label_selector=selector).items) == 1
    assert ruled.batch.list_namespaced_job(ruled.namespace, label_selector=selector).items
    assert ruled.until_final(name)["outcome"] == "Succeeded"
