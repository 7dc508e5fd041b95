from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.operator.world import NAME, World

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.custom_resources.crd import crd
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.labels import label_value
from spoke_jobs.contract.names import TEMPLATE_NAME, is_object_name
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects.api_objects import PodTemplate
from spoke_jobs_operator.core.objects.read_objects import read_template
from spoke_jobs_operator.core.templates.build_job import build_job
from spoke_jobs_operator.core.templates.template_checks import check_template

Object = dict[str, Any]


def spokejob(**spec: Any) -> SpokeJob:
    return SpokeJob.from_object(World(**spec).spokejob)


def template(
    spec: Object | None = None,
    *,
    allowed: str = "true",
    metadata: Object | None = None,
    labels: Object | None = None,
    annotations: Object | None = None,
) -> PodTemplate:
    spec = spec or {"containers": [{"name": "job", "image": "app:1"}]}
    labels = {"jobs.spoke.dev/template": allowed} | (labels or {})
    return read_template(
        {
            "metadata": {"name": "default", "namespace": "jobs", "uid": "t", "generation": 4, "labels": labels}
            | ({"annotations": annotations} if annotations else {}),
            "template": {"metadata": metadata or {}, "spec": spec},
        }
    )


def pod_spec(spec: Object) -> Object:
    result: Object = build_job(spokejob(), template({"containers": [], **spec} if "containers" in spec else {
        "containers": [{"name": "job", "image": "app:1"}], **spec}), 2)["spec"]["template"]["spec"]  # fmt: skip
    return result


def test_the_job() -> None:
    body = build_job(spokejob(), template(), 2)
    metadata = body["metadata"]
    assert metadata["name"] == f"{NAME}-2"
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "SpokeJob",
        spokejob().uid,
        True,
        False,
    )
    assert metadata["annotations"] == {"jobs.spoke.dev/made-from": "t/4", "jobs.spoke.dev/pod-template": "default"}
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "spoke-job",
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/part-of": "spoke-jobs",
        "app.kubernetes.io/managed-by": "spoke-operator",
        "jobs.spoke.dev/type": label_value("import contacts"),
        "jobs.spoke.dev/spokejob": NAME,
        "jobs.spoke.dev/uid": "0a1b2c3d-0000-4000-8000-000000000000",
        "jobs.spoke.dev/request-id": "7",
        "jobs.spoke.dev/attempt": "2",
        "jobs.spoke.dev/spokejob-uid": spokejob().uid,
    }
    spec = body["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 0)
    assert not {"ttlSecondsAfterFinished", "activeDeadlineSeconds"} & set(spec)
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["template"]["metadata"]["labels"] == metadata["labels"]
    assert spec["template"]["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def metadata_of(made: PodTemplate, **more: Any) -> tuple[Object, Object]:
    body = build_job(spokejob(**more), made, 1)
    return body["metadata"], body["spec"]["template"]["metadata"]


def test_the_job_gets_labels_and_annotations_of_the_template_and_of_its_pods() -> None:
    job, pod = metadata_of(
        template(
            labels={"team": "template", "tier": "1"},
            annotations={"example.com/owner": "shop"},
            metadata={"labels": {"team": "pods"}, "annotations": {"example.com/scrape": "yes"}},
        )
    )
    assert (job["labels"]["team"], job["labels"]["tier"]) == ("pods", "1")
    assert job["annotations"] == {
        "example.com/owner": "shop",
        "example.com/scrape": "yes",
        "jobs.spoke.dev/made-from": "t/4",
        "jobs.spoke.dev/pod-template": "default",
    }
    assert pod["labels"]["team"] == "pods"
    assert "tier" not in pod["labels"], "a Service that selects the application's objects would send requests to jobs"
    assert pod["annotations"] == {
        "example.com/scrape": "yes",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    }


def test_recommended_labels_are_the_templates_if_it_has_them() -> None:
    given = {f"app.kubernetes.io/{name}": "shop" for name in ("name", "part-of", "component", "managed-by")}
    for metadata in metadata_of(template(metadata={"labels": given})):
        found = {name: metadata["labels"][name] for name in given}
        assert found == given | {"app.kubernetes.io/managed-by": "spoke-operator"}


def test_type_queue_and_organization_are_labels_that_a_template_cannot_set() -> None:
    wrong = {f"jobs.spoke.dev/{name}": "wrong" for name in ("type", "queue", "organization", "uid", "more")}
    for metadata in metadata_of(template(labels=wrong, metadata={"labels": wrong}), queue="12:edit", organization=3):
        labels = metadata["labels"]
        assert "wrong" not in labels.values()
        assert labels["jobs.spoke.dev/type"] == label_value("import contacts")
        assert labels["jobs.spoke.dev/queue"] == label_value("12:edit")
        assert labels["jobs.spoke.dev/organization"] == "3"


def test_what_tools_keep_on_a_template_is_not_the_jobs() -> None:
    kept = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "meta.helm.sh/release-name": "shop",
        "helm.sh/resource-policy": "keep",
        "argocd.argoproj.io/tracking-id": "shop:/PodTemplate:jobs/default",
        "kustomize.toolkit.fluxcd.io/name": "shop",
        "kapp.k14s.io/app": "1",
        "objectset.rio.cattle.io/hash": "0",
        "jobs.spoke.dev/standby": "1-2",
    }
    job, _ = metadata_of(template(labels=kept, annotations=kept))
    assert not kept.keys() & {*job["labels"], *job["annotations"]}


def test_labels_of_a_dispatch_reach_pods_only_if_the_template_names_them() -> None:
    given = SpokeJob.from_object(World().spokejob)
    given = given.model_copy(update={"labels": {"team": "payments", "role": "database-client"}})
    metadata = {"labels": {"team": "shared"}}
    made = template(metadata=metadata, annotations={"jobs.spoke.dev/copied-labels": "team, jobs.spoke.dev/uid"})
    body = build_job(given, made, 1)
    for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
        assert labels["team"] == "payments"
        assert "role" not in labels, "it might open a network policy"
        assert labels["jobs.spoke.dev/uid"] == str(given.spec.uid)
    closed = build_job(given, template(metadata=metadata), 1)
    assert closed["metadata"]["labels"]["team"] == "shared"


def test_the_pod_of_a_bare_template() -> None:
    assert pod_spec({}) == {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{key}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 30,
            }
            for key in ("not-ready", "unreachable")
        ],
        "containers": [
            {
                "name": "job",
                "image": "app:1",
                "command": ["spoke-jobs", "run"],
                "env": [
                    {"name": "SPOKE_JOB_TYPE", "value": "import contacts"},
                    {"name": "SPOKE_CONTRACT", "value": "1"},
                    {"name": "SPOKE_REQUEST_ID", "value": "7"},
                    {"name": "SPOKE_REQUEST_UID", "value": "0a1b2c3d-0000-4000-8000-000000000000"},
                    {"name": "SPOKE_RUN", "value": "1"},
                    {"name": "SPOKE_ATTEMPT", "value": "2"},
                    {"name": "SPOKE_START_TIMEOUT", "value": "600"},
                    {"name": "SPOKE_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "SPOKE_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }


def test_a_type_that_kubernetes_would_expand_reaches_the_pod_as_it_is() -> None:
    job = build_job(spokejob(jobType="a$(SPOKE_RUN)$$"), template(), 1)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "SPOKE_JOB_TYPE", "value": "a$$(SPOKE_RUN)$$$$"} in container["env"]


def test_a_job_that_was_dispatched_in_a_trace_hands_it_to_its_pod() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    own = {
        "containers": [{"name": "job", "image": "app:1", "env": [{"name": "TRACEPARENT", "value": "the template's"}]}]
    }

    def env(**spec: Any) -> list[Object]:
        container = build_job(spokejob(**spec), template(own), 1)["spec"]["template"]["spec"]["containers"][0]
        return [item for item in container["env"] if item["name"] == "TRACEPARENT"]

    assert env(traceparent=trace) == [{"name": "TRACEPARENT", "value": trace}]
    assert env() == [{"name": "TRACEPARENT", "value": "the template's"}]
    # Kubernetes would put the value of the container's variable there.
    assert env(traceparent="$(SPOKE_DATABASE_URL)") == [{"name": "TRACEPARENT", "value": "the template's"}]


def test_the_environment_is_what_the_pod_reads() -> None:
    env = pod_spec({})["containers"][0]["env"]
    assert PodAssignment.from_environment({item["name"]: item.get("value", "x") for item in env}).attempt == 2


def test_what_a_template_may_not_decide() -> None:
    container = {
        "name": "job",
        "image": "app:1",
        "command": ["sh"],
        "args": ["-c", "true"],
        "env": [{"name": "SPOKE_ATTEMPT", "value": "9"}, {"name": "MINE", "value": "1"}],
        "terminationMessagePath": "/tmp/x",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    spec = pod_spec({"containers": [container], "restartPolicy": "OnFailure", "activeDeadlineSeconds": 5})
    (ours,) = spec["containers"]
    assert spec["restartPolicy"] == "Never"
    assert "activeDeadlineSeconds" not in spec
    assert ours["command"] == ["spoke-jobs", "run"]
    assert "args" not in ours
    assert [item["value"] for item in ours["env"] if item["name"] == "SPOKE_ATTEMPT"] == ["2"]
    assert ours["env"][0] == {"name": "MINE", "value": "1"}
    assert ours["terminationMessagePath"] == "/dev/termination-log"
    assert ours["terminationMessagePolicy"] == "File"


def test_what_a_template_may_decide() -> None:
    spec: Object = {
        "containers": [
            {"name": "proxy", "image": "p", "command": ["proxy"]},
            {"name": "job", "image": "a", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}},
        ],
        "initContainers": [{"name": "init", "image": "i"}],
        "automountServiceAccountToken": True,
        "serviceAccountName": "texter",
        "securityContext": {"runAsNonRoot": False, "runAsUser": 5, "seccompProfile": {"type": "Localhost"}},
        "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300}],
    }
    made = pod_spec(spec)
    assert made["automountServiceAccountToken"] is True
    assert made["serviceAccountName"] == "texter"
    assert made["securityContext"] == spec["securityContext"]
    assert [(t["key"], t["tolerationSeconds"]) for t in made["tolerations"]] == [
        ("node.kubernetes.io/unreachable", 300),
        ("node.kubernetes.io/not-ready", 30),
    ]
    assert made["containers"][0]["command"] == ["proxy"]
    assert "env" not in made["containers"][0]
    assert made["containers"][1]["securityContext"]["capabilities"] == {"drop": ["NET_RAW"]}
    for container in (made["containers"][0], made["initContainers"][0]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_toleration_of_everything_stands_alone() -> None:
    assert pod_spec({"tolerations": [{"operator": "Exists"}]})["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("key", [{}, {"key": "node.kubernetes.io/unreachable"}])
def test_a_toleration_of_another_effect_leaves_ours(key: dict[str, str]) -> None:
    """Else Kubernetes would add its own 300 s, and a stopped node's job would wait for that."""
    given = {"operator": "Exists", "effect": "NoSchedule"} | key
    made = pod_spec({"tolerations": [given]})["tolerations"]
    assert made[0] == given
    assert [item["tolerationSeconds"] for item in made[1:]] == [30, 30]


def test_the_template_itself_is_left_as_it_was() -> None:
    given = template()
    before = deepcopy(given.template)
    build_job(spokejob(), given, 1)
    assert given.template == before


def test_a_timeout_has_the_pods_own_deadline_as_a_backstop() -> None:
    """The Job's would count the time in which no pod can be created, or no node has room."""
    made = build_job(spokejob(timeoutSeconds=50, startTimeoutSeconds=20), template(), 1)["spec"]
    assert "activeDeadlineSeconds" not in made
    assert made["template"]["spec"]["activeDeadlineSeconds"] == 2 * 20 + 50 + 300


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (None, "TemplateMissing"),
        (template(allowed="false"), "TemplateNotAllowed"),
        (template({"containers": [{"name": "main", "image": "x"}]}), "TemplateInvalid"),
        (template({"containers": None}), "TemplateInvalid"),
        (read_template({"metadata": {"labels": {"jobs.spoke.dev/template": "true"}}}), "TemplateInvalid"),
    ],
)
def test_template_problems_are_values(given: PodTemplate | None, cause: str) -> None:
    problem = check_template(spokejob(), given)
    assert isinstance(problem, Wait)
    assert (problem.code, problem.object) == (cause, "default")
    assert "'default'" in wait_text.sentence(problem)


def test_the_crd_takes_only_what_can_be_a_templates_name() -> None:
    spec = crd(Kind.SPOKEJOB)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["podTemplate"]["pattern"] == TEMPLATE_NAME
    assert [name for name in ("a", "a.b-1", "a/b", "..", "A", "a\n", "") if is_object_name(name)] == ["a", "a.b-1"]


@pytest.mark.parametrize(
    ("annotations", "limit"),
    [({}, "450Mi"), ({"jobs.spoke.dev/allowed-resources": "cpu"}, "128Mi")],
    ids=["any", "no memory"],
)
def test_what_a_worker_measured_enlarges_the_first_pod_if_jobs_may_set_memory(annotations: Object, limit: str) -> None:
    container = {"name": "job", "image": "app:1", "resources": {"limits": {"memory": "128Mi"}}}
    made = build_job(
        spokejob(measuredMemoryBytes=300 * 2**20),
        template({"containers": [container]}, annotations=annotations),
        1,
    )
    (job,) = made["spec"]["template"]["spec"]["containers"]
    assert job["resources"]["limits"]["memory"] == limit
