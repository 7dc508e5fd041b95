"""Which values the charts take, and which they refuse, in words that name what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from .conftest import APP_VALUES, ROOT, Helm, Object, Refused, environment_of, merged, named, of_kind, pod_of


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_schemas_leave_no_object_open(chart: str) -> None:
    """Every object is closed, or a map of a stated kind; what Kubernetes checks itself is named as such."""
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    for path, node in objects_in(schema):
        open_on_purpose = path.endswith(("/kubernetesObject", "/global"))
        assert open_on_purpose or node.get("additionalProperties", True) is not True, path


def objects_in(node: Any, path: str = "") -> Iterator[tuple[str, Object]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for name, child in node.items():
            yield from objects_in(child, f"{path}/{name}")


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_schema_names_every_value(chart: str) -> None:
    """A value in values.yaml that the schema doesn't know would be refused by the chart's own default."""
    values = yaml.safe_load((ROOT / "charts" / chart / "values.yaml").read_text())
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    assert set(values) | {"global", "enabled"} == set(schema["properties"])


@pytest.mark.parametrize(
    ("chart", "values", "named"),
    [
        ("spoke-operator", {"watchNamespace": ["a"]}, "watchNamespace"),
        ("spoke-operator", {"watchNamespaces": ["A B"]}, "watchNamespaces"),
        ("spoke-operator", {"operator": {"maxRunning": -1}}, "maxRunning"),
        ("spoke-operator", {"image": {"digest": "latest"}}, "digest"),
        ("spoke-operator", {"resources": {"requests": {"memory": "much"}}}, "memory"),
        ("spoke-operator", {"replicas": -1}, "replicas"),
        ("spoke-operator", {"env": {"A": "b"}}, "env"),
        ("spoke-operator", {"podDisruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
        ("spoke-operator", {"monitoring": {"rules": {"runbook": "docs/operating.md"}}}, "runbook"),
        ("spoke-operator", {"operator": {"publishSeconds": 0.1}}, "publishSeconds"),
        ("spoke-operator", {"networkPolicy": {"apiServer": {"ports": ["https"]}}}, "ports"),
        ("spoke-operator", {"networkPolicy": {"apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}}, "cidr"),
        ("spoke-operator", {"networkPolicy": {"dns": {"to": [{}]}}}, "to"),
        ("spoke-operator", {"monitoring": {"serviceMonitor": {"interval": "30"}}}, "interval"),
        ("spoke-operator", {"monitoring": {"rules": {"without": ["SpokeNothing"]}}}, "without"),
        ("spoke-operator", {"extraObjects": [{"kind": "ConfigMap"}]}, "extraObjects"),
        ("spoke-operator", {"admissionPolicies": {"without": ["everything"]}}, "without"),
        ("spoke-operator", {"admissionPolicies": {"validationActions": []}}, "validationActions"),
        ("spoke-operator", {"tolerations": [{"operator": "Is"}]}, "operator"),
        ("spoke-app", {"app": "shop jobs"}, "app"),
        ("spoke-app", {"networkPolicy": {"egress": {"jobs": [{"ports": [443]}]}}}, "ports"),
        ("spoke-app", {"networkPolicy": {"ingress": {"tasks": [{"ipBlock": {}}]}}}, "cidr"),
        ("spoke-app", {"networkPolicy": {"database": {"ports": [70000]}}}, "ports"),
        ("spoke-app", {"monitoring": {"rules": {"without": ["SpokeOperatorDeaf"]}}}, "without"),
        ("spoke-app", {"podTemplates": {"large": {"copiedLabels": ["a,b"]}}}, "copiedLabels"),
        ("spoke-app", {"podTemplates": {"large": {"allowedTypes": ["a,b"]}}}, "allowedTypes"),
        ("spoke-app", {"podTemplates": {"large": {"maxResources": {"cpu": "1e3"}}}}, "cpu"),
        ("spoke-app", {"podTemplateDefaults": {"minResources": {"cpu": -1}}}, "cpu"),
        ("spoke-app", {"test": {"podTemplate": "A"}}, "podTemplate"),
        ("spoke-app", {"test": {"timeoutSeconds": 0}}, "timeoutSeconds"),
        ("spoke-app", {"podTemplates": {"Large": {}}}, "Large"),
        ("spoke-app", {"podTemplateDefaults": {"terminationGracePeriodSeconds": -1}}, "terminationGracePeriodSeconds"),
        ("spoke-app", {"tasks": {"replicas": 1.5}}, "replicas"),
        ("spoke-app", {"migrations": {"steps": [{"name": "a", "command": "b"}]}}, "command"),
        ("spoke-app", {"podTemplates": {"large": {"serviceAccountName": "Big One"}}}, "serviceAccountName"),
        ("spoke-app", {"sync": {"resources": {"limits": {"memory": "512mi"}}}}, "memory"),
        ("spoke-app", {"monitoring": {"serviceMonitor": {"interval": "1s1d"}}}, "interval"),
    ],
)
def test_schema_refuses_and_names_what_is_wrong(chart: str, values: Object, named: str) -> None:
    folder = ROOT / "charts" / chart
    defaults = yaml.safe_load((folder / "values.yaml").read_text())
    schema = jsonschema.Draft202012Validator(json.loads((folder / "values.schema.json").read_text()))
    base = merged(defaults, APP_VALUES) if chart == "spoke-app" else defaults
    assert schema.is_valid(base)
    errors = [f"{list(error.absolute_path)} {error.message}" for error in schema.iter_errors(merged(base, values))]
    assert named in " ".join(errors)


@pytest.mark.parametrize(
    ("chart", "values", "named"),
    [
        ("spoke-operator", {"operator": {"maxRuning": 5}}, "maxRuning"),
        ("spoke-app", {"podTemplates": {"Large": {}}}, "Large"),
        ("texting", {"web": {"replica": 1}}, "replica"),
        ("texting", {"spoke-app": {"task": {}}}, "task"),
        ("texting", {"postgresql": {"serviceType": "LoadBalancer"}}, "serviceType"),
    ],
)
def test_helm_goes_by_the_schemas(helm: Helm, chart: str, values: Object, named: str) -> None:
    with pytest.raises(Refused, match=named) as refused:
        helm.render(chart, merged(APP_VALUES if chart == "spoke-app" else {}, values))
    assert "schema" in str(refused.value)


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_schema_takes_quantities_and_intervals_as_kubernetes_and_prometheus_write_them(helm: Helm, chart: str) -> None:
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())

    def refused(name: str, value: Any) -> list[str]:
        validator = jsonschema.Draft202012Validator(schema["$defs"][name] | {"$defs": schema["$defs"]})
        return [error.message for error in validator.iter_errors(value)]

    for memory in ("1e9", 1e9, "1.5Gi", "129E-1", ".5Gi", 100000000, "128974848000m"):
        assert not refused("resources", {"requests": {"memory": memory}})
    for interval in ("1m30s", "1w2d", "500ms", "1d"):
        assert not refused("promDuration", interval)
    values = {"sync": {"resources": {"requests": {"memory": 100000000}}}}
    objects = helm.render("spoke-app", merged(APP_VALUES, values))
    (container,) = pod_of(named(objects, "Deployment", "rel-spoke-app-sync"))["containers"]
    assert container["resources"]["requests"]["memory"] == 100000000, "it is not written with an exponent"


@pytest.mark.parametrize(
    ("chart", "values", "said"),
    [
        ("spoke-operator", {"serviceAccount": {"create": False}}, "serviceAccount.name: name the existing account"),
        ("spoke-app", {"serviceAccounts": {"sync": {"create": False}}}, "serviceAccounts.sync.name: name the existing"),
        (
            "spoke-app",
            {"tasks": {"autoscaling": {"enabled": True, "minReplicas": 11}}},
            "minReplicas, 11, is above maxReplicas, 10",
        ),
        (
            "spoke-app",
            {"test": {"podTemplate": "small"}},
            'test.podTemplate: "small" is not among podTemplates; .*: default',
        ),
        ("spoke-app", {"test": {"podTemplate": None}}, 'test.podTemplate: "" is not among podTemplates'),
        ("spoke-app", {"notify": {"enabled": True}}, "name the Secret of a receiver, notify.webhook.secretName or"),
        ("spoke-app", {"app": ""}, "app: name the module"),
        ("spoke-app", {"image": {"repository": ""}}, "image.repository"),
        ("spoke-app", {"database": {"secretName": ""}}, "database.secretName"),
        ("spoke-app", {"tasks": {"key": {"secretName": ""}}}, "tasks.key.secretName"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(helm: Helm, chart: str, values: Object, said: str) -> None:
    with pytest.raises(Refused, match=said):
        helm.render(chart, merged(APP_VALUES if chart == "spoke-app" else {}, values))


OLD_NAMES = {
    "newsPerSecond": "STATUS_WRITES_PER_SECOND",
    "newsAtOnce": "STATUS_WRITES_AT_ONCE",
    "newsWithinSeconds": "STATUS_WRITES_WITHIN_SECONDS",
    "deafAfterSeconds": "UNHEALTHY_AFTER_SECONDS",
}


def test_values_with_old_names_apply(helm: Helm) -> None:
    given = {name: 301 + number for number, name in enumerate(OLD_NAMES)}
    (container,) = pod_of(of_kind(helm.render("spoke-operator", {"operator": given}), "Deployment")[0])["containers"]
    environment = environment_of(container)
    for name, variable in OLD_NAMES.items():
        assert environment[f"SPOKE_OPERATOR_{variable}"] == str(given[name])
    assert not [name for name in environment if "NEWS" in name or "DEAF" in name]


def test_a_silence_that_would_be_taken_for_a_failure_is_refused_in_words(helm: Helm) -> None:
    helm.render("spoke-operator", {"operator": {"compareSeconds": 60}})
    with pytest.raises(
        Refused, match="unhealthyAfterSeconds, 120, must be at least twice operator.compareSeconds, 60.5"
    ):
        helm.render("spoke-operator", {"operator": {"compareSeconds": 60.5}})
    helm.render("spoke-operator", {"operator": {"compareSeconds": 60.5, "deafAfterSeconds": 121}})
