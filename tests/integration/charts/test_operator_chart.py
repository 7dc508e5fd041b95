"""The operator's chart."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Helm, Object, environment_of, named, of_kind, pod_of

RULES = {
    ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch", "delete"},
    ("jobs.spoke.dev", "spokejobs/status"): {"patch"},
    ("batch", "jobs"): {"get", "list", "watch", "create", "delete"},
    ("", "pods"): {"list", "watch"},
    ("", "podtemplates"): {"get", "list", "watch"},
    ("", "events"): {"list", "watch"},
    ("", "configmaps", "spoke-operator-state"): {"create", "patch"},
}
"""All that the operator may do where it serves; a third word bounds it to the objects of that name."""

LEASE_RULES = {
    ("coordination.k8s.io", "leases", "rel-spoke-operator"): {"get", "update"},
    ("coordination.k8s.io", "leases"): {"create"},
}
"""All that it may do in its own namespace."""


def rights(rules: list[dict[str, list[str]]]) -> dict[tuple[str, ...], set[str]]:
    return {
        (group, resource, *rule.get("resourceNames", [])): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_definition_is_the_generated_one_and_is_kept(helm: Helm) -> None:
    (crd,) = of_kind(helm.render("spoke-operator"), "CustomResourceDefinition")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    crd["metadata"].pop("labels")
    assert crd == yaml.safe_load((ROOT / "crds/spokejobs.yaml").read_text())


def test_copy_of_the_definition_is_up_to_date() -> None:
    source, copy = ROOT / "crds/spokejobs.yaml", ROOT / "charts/spoke-operator/files/spokejobs.yaml"
    assert copy.read_text() == source.read_text(), f"run `make generate` (or: cp {source} {copy})"


def test_definition_can_be_left_to_somebody_else(helm: Helm) -> None:
    assert not of_kind(helm.render("spoke-operator", {"crds": {"enabled": False}}), "CustomResourceDefinition")


def test_serves_the_whole_cluster_by_one_cluster_role(helm: Helm) -> None:
    objects = helm.render("spoke-operator", namespace="system")
    (binding,) = of_kind(objects, "ClusterRoleBinding")
    role = named(objects, "ClusterRole", "rel-spoke-operator")
    assert rights(role["rules"]) == RULES
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rel-spoke-operator", "namespace": "system"}]
    assert [item["metadata"]["namespace"] for item in of_kind(objects, "Role", "RoleBinding")] == ["system", "system"]
    container = pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0]
    assert "SPOKE_OPERATOR_NAMESPACES" not in environment_of(container)


def test_who_may_view_a_namespace_may_view_its_spokejobs(helm: Helm) -> None:
    """By Kubernetes' own role, to which this one is added; edit and admin hold it. It is bound to nobody itself."""
    objects = helm.render("spoke-operator")
    (added,) = [item for item in of_kind(objects, "ClusterRole") if item["metadata"]["name"] != "rel-spoke-operator"]
    assert added["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert rights(added["rules"]) == {("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch"}}
    bound = {item["roleRef"]["name"] for item in of_kind(objects, "RoleBinding", "ClusterRoleBinding")}
    assert added["metadata"]["name"] not in bound


def test_serves_given_namespaces_without_a_cluster_role(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"watchNamespaces": ["a", "b"]}, namespace="system")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    *roles, _ = of_kind(objects, "Role")
    *bindings, _ = of_kind(objects, "RoleBinding")
    assert [item["metadata"]["namespace"] for item in roles] == ["a", "b"]
    assert [item["metadata"]["namespace"] for item in bindings] == ["a", "b"]
    assert all(rights(role["rules"]) == RULES for role in roles)
    assert all(binding["subjects"][0]["namespace"] == "system" for binding in bindings)
    container = pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0]
    assert environment_of(container)["SPOKE_OPERATOR_NAMESPACES"] == "a,b"


@pytest.mark.parametrize("served", [[], ["a", "system"]])
def test_leads_by_a_lease_of_its_own_namespace(helm: Helm, served: list[str]) -> None:
    objects = helm.render("spoke-operator", {"watchNamespaces": served}, namespace="system")
    role = named(objects, "Role", "rel-spoke-operator-lease")
    binding = named(objects, "RoleBinding", "rel-spoke-operator-lease")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "system"
    assert rights(role["rules"]) == LEASE_RULES
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rel-spoke-operator", "namespace": "system"}]
    environment = environment_of(pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0])
    assert environment["SPOKE_OPERATOR_LEASE"] == "system/rel-spoke-operator"
    assert environment["SPOKE_OPERATOR_IDENTITY"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_settings_reach_the_operator_as_it_reads_them(helm: Helm) -> None:
    from spoke_jobs_operator.operator_settings import Settings

    given = {"maxRunning": 5_000_000, "maxRunningForOrganization": 7, "compareSeconds": 0.5, "logFormat": "plain"}
    settings = settings_of(helm.render("spoke-operator", {"operator": given}))
    assert settings.keys() <= Settings.model_fields.keys()
    read = Settings.model_validate(settings)
    assert (read.max_running, read.compare_seconds, read.log_format) == (5_000_000, 0.5, "plain")
    assert read.limits.for_organization == 7


def test_every_setting_can_be_given() -> None:
    from spoke_jobs_operator.operator_settings import Settings

    values = yaml.safe_load((ROOT / "charts/spoke-operator/values.yaml").read_text())
    charts_own = {"namespaces", "lease", "identity", "health_host", "health_port"}
    given = {re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name) for name in values["operator"]}
    assert given | charts_own == Settings.model_fields.keys()


def test_defaults_are_the_operators_own(helm: Helm) -> None:
    from spoke_jobs_operator.operator_settings import Settings

    settings = settings_of(helm.render("spoke-operator"))
    whose_lead = {"lease": settings.pop("lease"), "identity": settings.pop("identity")}
    assert all(whose_lead.values())
    assert Settings.model_validate(settings) == Settings()


def settings_of(objects: list[Object]) -> dict[str, Any]:
    (deployment,) = of_kind(objects, "Deployment")
    environment, prefix = environment_of(pod_of(deployment)["containers"][0]), "SPOKE_OPERATOR_"
    assert all(name.startswith(prefix) for name in environment)
    settings = {name.removeprefix(prefix).lower(): value for name, value in environment.items()}
    return settings | {"identity": "the pod's name"}  # which the kubelet fills in


def test_a_second_replica_stands_by_on_another_node(helm: Helm) -> None:
    objects = helm.render("spoke-operator")
    (deployment,), (budget,) = of_kind(objects, "Deployment"), of_kind(objects, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    (spread,) = pod_of(deployment)["topologySpreadConstraints"]
    selector = deployment["spec"]["selector"]
    assert (spread["topologyKey"], spread["labelSelector"]) == ("kubernetes.io/hostname", selector)
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert (budget["spec"]["maxUnavailable"], budget["spec"]["selector"]) == (1, selector)


def test_one_alone_stops_no_drain(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"replicas": 1})
    assert not of_kind(objects, "PodDisruptionBudget")
