"""The operator's chart."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from spoke_jobs.contract.standby import LABEL_STANDBY, PORT

from .conftest import ROOT, Helm, Object, environment_of, named, of_kind, pod_of

RULES = {
    ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch", "delete"},
    ("jobs.spoke.dev", "spokejobs/status"): {"patch"},
    ("jobs.spoke.dev", "spokelimits"): {"get", "list", "watch"},
    ("jobs.spoke.dev", "spokelimits/status"): {"patch"},
    ("batch", "jobs"): {"get", "list", "watch", "create", "delete"},
    ("", "pods"): {"list", "watch"},
    ("", "podtemplates"): {"get", "list", "watch"},
    ("", "events"): {"list", "watch"},
    ("events.k8s.io", "events"): {"create", "patch"},
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
    for crd in of_kind(helm.render("spoke-operator"), "CustomResourceDefinition"):
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        crd["metadata"].pop("labels")
        assert crd == yaml.safe_load((ROOT / f"crds/{crd['spec']['names']['plural']}.yaml").read_text())


def test_serves_the_whole_cluster_by_one_cluster_role(helm: Helm) -> None:
    objects = helm.render("spoke-operator", namespace="system")
    (binding,) = of_kind(objects, "ClusterRoleBinding")
    role = named(objects, "ClusterRole", "rel-spoke-operator")
    assert rights(role["rules"]) == RULES | {("", "namespaces"): {"list", "watch"}}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rel-spoke-operator", "namespace": "system"}]
    assert [item["metadata"]["namespace"] for item in of_kind(objects, "Role", "RoleBinding")] == ["system", "system"]
    container = pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0]
    assert "SPOKE_OPERATOR_NAMESPACES" not in environment_of(container)


@pytest.mark.parametrize("served", [[], ["a"]])
def test_with_standby_pods_it_may_patch_jobs_and_pods_and_reach_those_pods(helm: Helm, served: list[str]) -> None:
    values = {"operator": {"standbyPods": True}, "watchNamespaces": served}
    objects = helm.render("spoke-operator", values, namespace="system")
    role = named(objects, "Role" if served else "ClusterRole", "rel-spoke-operator")
    added = {("batch", "jobs"): RULES["batch", "jobs"] | {"patch"}, ("", "pods"): RULES["", "pods"] | {"patch"}}
    assert rights(role["rules"]).items() >= (RULES | added).items()
    policy = named(objects, "NetworkPolicy", "rel-spoke-operator")
    (rule,) = [rule for rule in policy["spec"]["egress"] if {"port": PORT, "protocol": "TCP"} in rule["ports"]]
    selected = {"namespaceSelector": {}, "podSelector": {"matchLabels": {LABEL_STANDBY: "true"}}}
    assert rule["to"] == [selected]
    assert settings_of(objects)["standby_pods"] == "true"


ADDED = {
    "view": {
        ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch"},
        ("jobs.spoke.dev", "spokelimits"): {"get", "list", "watch"},
    },
    "edit": {("jobs.spoke.dev", "spokejobs"): {"create", "patch", "delete"}},
    "admin": {("jobs.spoke.dev", "spokelimits"): {"create", "update", "patch", "delete"}},
}
"""What is added to Kubernetes' own roles, of which each holds the one before."""


@pytest.mark.parametrize("admins", [True, False])
def test_kubernetes_own_roles_of_a_namespace_are_extended(helm: Helm, admins: bool) -> None:
    """The added roles are bound to nobody themselves."""
    objects = helm.render("spoke-operator", {"roles": {"adminsWriteLimits": admins}})
    added = {
        item["metadata"]["name"].removeprefix("rel-spoke-operator-"): item
        for item in of_kind(objects, "ClusterRole")
        if item["metadata"]["name"] != "rel-spoke-operator"
    }
    assert added.keys() == ADDED.keys() - (set() if admins else {"admin"})
    for name, role in added.items():
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"
        assert rights(role["rules"]) == ADDED[name]
    bound = {item["roleRef"]["name"] for item in of_kind(objects, "RoleBinding", "ClusterRoleBinding")}
    assert not bound & {role["metadata"]["name"] for role in added.values()}


def test_serves_given_namespaces_without_a_cluster_role(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"watchNamespaces": ["a", "b"]}, namespace="system")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    *roles, _ = of_kind(objects, "Role")
    *bindings, _ = of_kind(objects, "RoleBinding")
    assert [item["metadata"]["namespace"] for item in roles] == ["a", "b"]
    assert [item["metadata"]["namespace"] for item in bindings] == ["a", "b"]
    for role in roles:
        own = ("", "namespaces", role["metadata"]["namespace"])
        assert rights(role["rules"]) == RULES | {own: {"get"}}
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


def test_an_operator_may_have_no_replica(helm: Helm) -> None:
    """As in maintenance. `helm test` then has nothing to find."""
    objects = helm.render("spoke-operator", {"replicas": 0})
    assert named(objects, "Deployment", "rel-spoke-operator")["spec"]["replicas"] == 0
    assert not of_kind(objects, "PodDisruptionBudget", "Pod")


def test_what_a_platform_gives_the_operator_s_pods(helm: Helm) -> None:
    constraint = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    own = {"labelSelector": {"matchLabels": {"a": "b"}}}
    values = {
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "envFrom": [{"configMapRef": {"name": "proxy"}}],
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
        "topologySpreadConstraints": [constraint, constraint | own],
        "podDisruptionBudget": {"minAvailable": "50%"},
    }
    objects = helm.render("spoke-operator", values)
    deployment = named(objects, "Deployment", "rel-spoke-operator")
    pod = pod_of(deployment)
    (container,) = pod["containers"]
    assert environment_of(container)["HTTPS_PROXY"] == "http://proxy:3128"
    assert container["envFrom"] == values["envFrom"]
    assert [item["name"] for item in container["volumeMounts"]] == ["tmp", "ca"]
    assert [item["name"] for item in pod["volumes"]] == ["tmp", "ca"]
    assert pod["topologySpreadConstraints"] == [
        constraint | {"labelSelector": deployment["spec"]["selector"]},
        constraint | own,
    ]
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == "50%"
    assert "maxUnavailable" not in budget["spec"]
    assert not of_kind(
        helm.render("spoke-operator", {"podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget"
    )


def test_an_existing_account_is_bound_and_used(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"serviceAccount": {"create": False, "name": "given"}})
    assert not of_kind(objects, "ServiceAccount")
    for item in of_kind(objects, "Deployment", "Pod"):
        assert pod_of(item)["serviceAccountName"] == "given"
    for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding"):
        assert [subject["name"] for subject in binding["subjects"]] == ["given"]


def test_one_alone_stops_no_drain(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"replicas": 1})
    assert not of_kind(objects, "PodDisruptionBudget")
