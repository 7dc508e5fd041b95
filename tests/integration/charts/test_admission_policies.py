"""The policies that bind the operator's account. tests/e2e/test_admission.py tries what they refuse."""

from __future__ import annotations

import json
import re

import pytest
from kubernetes import client
from tests.unit.operator.core.test_build_job import spokejob, template

from spoke_jobs.contract import labels
from spoke_jobs_operator.core.limits.limits import Bound, NamespaceLimits
from spoke_jobs_operator.core.objects.api_objects import KUEUE_QUEUE
from spoke_jobs_operator.core.standby.standby_job import build_standby_job
from spoke_jobs_operator.core.templates.build_job import NODE_GONE_SECONDS, build_job

from .conftest import Helm, Object, named, of_kind

POLICIES = ["jobs.rel-spoke-operator.system", "podtemplates.rel-spoke-operator.system"]


def policies(helm: Helm, values: Object) -> list[Object]:
    return of_kind(helm.render("spoke-operator", values, namespace="system"), "ValidatingAdmissionPolicy")


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, True),
        ({"watchNamespaces": ["a"]}, True),
        ({"crds": {"enabled": False}}, True),
        ({"watchNamespaces": ["a"], "crds": {"enabled": False}}, False),  # whoever installs it may have no such right
        ({"watchNamespaces": ["a"], "crds": {"enabled": False}, "admissionPolicies": {"enabled": True}}, True),
        ({"admissionPolicies": {"enabled": False}}, False),
    ],
)
def test_they_are_there_by_default(helm: Helm, values: Object, there: bool) -> None:
    objects = helm.render("spoke-operator", values, namespace="system")
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        assert [item["metadata"]["name"] for item in of_kind(objects, kind)] == (POLICIES if there else [])


def test_they_concern_the_operators_own_account_alone(helm: Helm) -> None:
    for item in policies(helm, {"serviceAccount": {"create": False, "name": "given"}}):
        (condition,) = item["spec"]["matchConditions"]
        assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:system:given'"
        assert item["spec"]["failurePolicy"] == "Fail"


def test_a_namespace_without_templates_concerns_no_other_account(helm: Helm) -> None:
    """Kubernetes would refuse everybody's Jobs there, since it looks for parameters before it reads matchConditions."""
    objects = helm.render("spoke-operator", namespace="system")
    binding = named(objects, "ValidatingAdmissionPolicyBinding", POLICIES[1])
    assert binding["spec"]["paramRef"]["parameterNotFoundAction"] == "Allow"
    (policy,) = [item for item in of_kind(objects, "ValidatingAdmissionPolicy") if "paramKind" in item["spec"]]
    selected = policy["spec"]["matchConstraints"]["objectSelector"]["matchLabels"]
    assert selected.items() <= build_job(spokejob(), template(), 1)["metadata"]["labels"].items()


def test_the_variables_of_the_operator_are_the_operators_own(helm: Helm) -> None:
    """One that the policy does not know would have every Job refused."""
    (policy,) = [item for item in policies(helm, {}) if "paramKind" in item["spec"]]
    limits = NamespaceLimits(default_timeout=Bound(60, "SpokeLimit tenant"))
    made = build_job(spokejob(traceparent=f"00-{'1' * 32}-{'2' * 16}-01"), template(), 1, limits)
    waits = build_standby_job(template(), "default-standby-1", "v", 60)
    names = {
        item["name"] for body in (made, waits) for item in body["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert set(list_of(variable(policy, "assigned"))) == names


def test_the_operator_may_change_something_only_with_standby_pods(helm: Helm) -> None:
    def operations(values: Object) -> dict[str, set[str]]:
        rules = [rule for item in policies(helm, values) for rule in item["spec"]["matchConstraints"]["resourceRules"]]
        return {rule["resources"][0]: set(rule["operations"]) for rule in rules if "UPDATE" in rule["operations"]}

    assert operations({}) == {}, "it has no right to"
    assert operations({"operator": {"standbyPods": True}}) == {"jobs": {"UPDATE"}, "pods": {"UPDATE"}}


def test_what_other_policies_change_is_not_compared(helm: Helm) -> None:
    text = json.dumps(policies(helm, {"admissionPolicies": {"without": ["images", "serviceAccounts"]}}))
    assert "the pod's images" not in text
    assert "authorizer" not in text
    assert "the pod's volumes" in text


def test_they_can_be_tried_out(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"admissionPolicies": {"validationActions": ["Warn", "Audit"]}})
    for item in of_kind(objects, "ValidatingAdmissionPolicyBinding"):
        assert item["spec"]["validationActions"] == ["Warn", "Audit"]


def list_of(text: str) -> list[str]:
    found: list[str] = json.loads(text.replace("'", '"'))
    return found


def variable(policy: Object, name: str) -> str:
    (found,) = [item["expression"] for item in policy["spec"]["variables"] if item["name"] == name]
    return str(found)


def expressions(helm: Helm) -> str:
    return " ".join(rule["expression"] for item in policies(helm, {}) for rule in item["spec"]["validations"])


def test_all_templates_are_asked(helm: Helm) -> None:
    """One without the label would otherwise be compared with nothing."""
    binding = named(helm.render("spoke-operator", namespace="system"), "ValidatingAdmissionPolicyBinding", POLICIES[1])
    assert binding["spec"]["paramRef"]["selector"] == {}
    (policy,) = [item for item in policies(helm, {}) if "paramKind" in item["spec"]]
    assert "jobs.spoke.dev/template" in policy["spec"]["validations"][0]["expression"]


def test_the_values_of_the_operator_are_the_operators_own(helm: Helm) -> None:
    (policy,) = [item for item in policies(helm, {}) if "paramKind" in item["spec"]]
    assert json.loads(variable(policy, "defaultLabels").replace("'", '"')) == labels.DEFAULT_LABELS
    assert f"toleration.tolerationSeconds <= {NODE_GONE_SECONDS})" in expressions(helm)


def test_a_job_has_the_fields_that_the_operator_sets(helm: Helm) -> None:
    (listed,) = re.findall(r"dyn\(variables\.job\.spec\)\.all\(field, field in (\[.*?\])\)", expressions(helm))
    queued = template(labels={KUEUE_QUEUE: "a"})
    made = build_job(spokejob(), queued, 1)["spec"].keys()
    defaults = {"completionMode", "manualSelector", "podReplacementPolicy", "selector"}
    harmless = {"activeDeadlineSeconds", "ttlSecondsAfterFinished"}  # other policies of a cluster may set them
    assert set(list_of(listed)) == made | defaults | harmless


SET_BY_THE_OPERATOR = {
    "activeDeadlineSeconds": "from the timeouts",
    "serviceAccount": "the API server sets it to serviceAccountName, which is compared",
}
"""Fields of a pod that the policies leave to whoever has the operator's token, and why."""


@pytest.mark.parametrize(("kind", "name"), [("V1PodSpec", "namedPodFields"), ("V1Container", "namedContainerFields")])
def test_a_field_that_is_excepted_is_compared_by_its_own_rule(helm: Helm, kind: str, name: str) -> None:
    """All others, also those of later releases of Kubernetes, must be the template's."""
    (policy,) = [item for item in policies(helm, {}) if "paramKind" in item["spec"]]
    excepted = set(list_of(variable(policy, name)))
    assert excepted <= set(getattr(client, kind).attribute_map.values())
    assert excepted - set(re.findall(r"\w+", expressions(helm))) - set(SET_BY_THE_OPERATOR) == set()


@pytest.mark.parametrize("kind", ["V1PodSecurityContext", "V1SecurityContext"])
def test_each_field_of_a_security_context_is_compared(helm: Helm, kind: str) -> None:
    """A new release of Kubernetes may have fields that nobody has thought about."""
    fields = set(getattr(client, kind).attribute_map.values())
    assert fields - set(re.findall(r"\w+", expressions(helm))) == set()
