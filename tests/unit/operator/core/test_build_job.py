from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.operator.world import NAME, World

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.crd import crd
from spoke_jobs.contract.environment import Assignment
from spoke_jobs.contract.names import TEMPLATE_NAME
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.api_objects import PodTemplate
from spoke_jobs_operator.core.build_job import build_job, check_template, is_template_name
from spoke_jobs_operator.core.read_objects import read_template

Object = dict[str, Any]


def spokejob(**spec: Any) -> SpokeJob:
    return SpokeJob.from_object(World(**spec).spokejob)


def template(spec: Object | None = None, *, allowed: str = "true", metadata: Object | None = None) -> PodTemplate:
    spec = spec or {"containers": [{"name": "job", "image": "app:1"}]}
    labels = {"jobs.spoke.dev/template": allowed}
    return read_template(
        {
            "metadata": {"name": "default", "namespace": "jobs", "uid": "t", "generation": 4, "labels": labels},
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
    assert metadata["annotations"] == {"jobs.spoke.dev/made-from": "t/4"}
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "spoke-operator",
        "jobs.spoke.dev/spokejob": NAME,
        "jobs.spoke.dev/uid": "0a1b2c3d-0000-4000-8000-000000000000",
        "jobs.spoke.dev/request-id": "7",
        "jobs.spoke.dev/attempt": "2",
        "jobs.spoke.dev/spokejob-uid": spokejob().uid,
    }
    spec = body["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 0)
    assert not {"podFailurePolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds"} & set(spec)
    assert spec["template"]["metadata"]["labels"] == metadata["labels"]
    assert spec["template"]["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


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
                    {"name": "SPOKE_CONTRACT", "value": "1"},
                    {"name": "SPOKE_REQUEST_ID", "value": "7"},
                    {"name": "SPOKE_REQUEST_UID", "value": "0a1b2c3d-0000-4000-8000-000000000000"},
                    {"name": "SPOKE_RUN", "value": "1"},
                    {"name": "SPOKE_ATTEMPT", "value": "2"},
                    {"name": "SPOKE_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "SPOKE_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }


def test_the_environment_is_what_the_pod_reads() -> None:
    env = pod_spec({})["containers"][0]["env"]
    assert Assignment.from_environment({item["name"]: item.get("value", "x") for item in env}).attempt == 2


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


def test_labels_and_annotations_of_the_template_are_kept_but_not_over_ours() -> None:
    metadata = {
        "labels": {"team": "a", "jobs.spoke.dev/attempt": "9"},
        "annotations": {"note": "b", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
    }
    made = build_job(spokejob(), template(metadata=metadata), 1)["spec"]["template"]["metadata"]
    assert (made["labels"]["team"], made["labels"]["jobs.spoke.dev/attempt"]) == ("a", "1")
    assert made["annotations"] == {"note": "b", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def test_the_template_itself_is_left_as_it_was() -> None:
    given = template()
    before = deepcopy(given.template)
    build_job(spokejob(), given, 1)
    assert given.template == before


def test_a_timeout_has_the_jobs_own_deadline_as_a_backstop() -> None:
    made = build_job(spokejob(timeoutSeconds=50, startTimeoutSeconds=20), template(), 1)
    assert made["spec"]["activeDeadlineSeconds"] == 50 + 20 + 300


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


def test_a_good_template_passes() -> None:
    assert check_template(spokejob(), template()) == template()


def test_the_crd_takes_only_what_can_be_a_templates_name() -> None:
    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["podTemplate"]["pattern"] == TEMPLATE_NAME
    assert [name for name in ("a", "a.b-1", "a/b", "..", "A", "a\n", "") if is_template_name(name)] == ["a", "a.b-1"]
