"""The operator's chart."""

from __future__ import annotations

import yaml

from .conftest import ROOT, Helm, environment_of, named, of_kind, pod_of

RULES = {
    ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch", "delete"},
    ("jobs.spoke.dev", "spokejobs/status"): {"patch"},
    ("batch", "jobs"): {"get", "list", "watch", "create", "delete"},
    ("", "pods"): {"list", "watch"},
    ("", "podtemplates"): {"get", "list", "watch"},
    ("", "events"): {"list", "watch"},
}
"""All that the operator may do."""


def rights(rules: list[dict[str, list[str]]]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
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
    (role,), (binding,) = of_kind(objects, "ClusterRole"), of_kind(objects, "ClusterRoleBinding")
    assert rights(role["rules"]) == RULES
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rel-spoke-operator", "namespace": "system"}]
    assert not of_kind(objects, "Role", "RoleBinding")
    container = pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0]
    assert "SPOKE_OPERATOR_NAMESPACES" not in environment_of(container)


def test_serves_given_namespaces_without_a_cluster_role(helm: Helm) -> None:
    objects = helm.render("spoke-operator", {"watchNamespaces": ["a", "b"]}, namespace="system")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    roles, bindings = of_kind(objects, "Role"), of_kind(objects, "RoleBinding")
    assert [item["metadata"]["namespace"] for item in roles] == ["a", "b"]
    assert [item["metadata"]["namespace"] for item in bindings] == ["a", "b"]
    assert all(rights(role["rules"]) == RULES for role in roles)
    assert all(binding["subjects"][0]["namespace"] == "system" for binding in bindings)
    container = pod_of(named(objects, "Deployment", "rel-spoke-operator"))["containers"][0]
    assert environment_of(container)["SPOKE_OPERATOR_NAMESPACES"] == "a,b"


def test_settings_reach_the_operator_as_it_reads_them(helm: Helm) -> None:
    from spoke_jobs_operator.settings import Settings

    given = {"maxRunning": 5_000_000, "compareSeconds": 0.5, "logFormat": "plain"}
    (deployment,) = of_kind(helm.render("spoke-operator", {"operator": given}), "Deployment")
    prefix = "SPOKE_OPERATOR_"
    environment = environment_of(pod_of(deployment)["containers"][0])
    assert all(name.startswith(prefix) for name in environment)
    settings = {name.removeprefix(prefix).lower(): value for name, value in environment.items()}
    assert settings.keys() <= Settings.model_fields.keys()
    read = Settings.model_validate(settings)
    assert (read.max_running, read.compare_seconds, read.log_format) == (5_000_000, 0.5, "plain")


def test_defaults_are_the_operators_own(helm: Helm) -> None:
    from spoke_jobs_operator.settings import Settings

    (deployment,) = of_kind(helm.render("spoke-operator"), "Deployment")
    environment = environment_of(pod_of(deployment)["containers"][0])
    settings = {name.removeprefix("SPOKE_OPERATOR_").lower(): value for name, value in environment.items()}
    assert Settings.model_validate(settings) == Settings()


def test_one_at_a_time(helm: Helm) -> None:
    (deployment,) = of_kind(helm.render("spoke-operator"), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
