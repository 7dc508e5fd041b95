"""The pods of the application's chart: sync, tasks, migrations and jobs."""

from __future__ import annotations

import pytest

from spoke_jobs.settings import Settings

from .conftest import (
    APP_VALUES,
    COMPONENTS,
    WITH_PODS,
    Helm,
    Object,
    component_of,
    environment_of,
    merged,
    named,
    of_kind,
    pod_of,
)

OPERATORS_OWN = {"SPOKE_HEALTH_PORT"}
"""Variables of a single command, not among the library's settings."""


def test_names_may_be_those_of_the_parents_objects(helm: Helm) -> None:
    values = {
        "imagePullSecrets": [{"name": "{{ .Release.Name }}-registry"}],
        "podTemplateDefaults": {"serviceAccountName": "{{ .Release.Name }}-jobs"},
        "podTemplates": {"default": {}, "large": {"serviceAccountName": "{{ .Release.Name }}-large"}},
        "tasks": {"tokens": {"enabled": True}},
    }
    objects = helm.render("spoke-app", APP_VALUES | values, namespace="shop")
    for item in of_kind(objects, *WITH_PODS):
        assert pod_of(item)["imagePullSecrets"] == [{"name": "rel-registry"}], item["metadata"]["name"]
    accounts = {
        name: pod_of(named(objects, "PodTemplate", name))["serviceAccountName"] for name in ("default", "large")
    }
    assert accounts == {"default": "rel-jobs", "large": "rel-large"}
    tasks = environment_of(pod_of(named(objects, "Deployment", "rel-spoke-app-tasks"))["containers"][0])
    assert {"shop/rel-jobs", "shop/rel-large"} <= set(tasks["SPOKE_TASKS_CALLERS"].split(","))


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_has_an_environment_and_a_place_of_its_own(helm: Helm, component: str) -> None:
    constraint = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    own: Object = {
        "env": [{"name": "WHO", "value": "{{ .Release.Name }}"}],
        "envFrom": [{"configMapRef": {"name": "own"}}],
        "nodeSelector": {"pool": component},
        "tolerations": [],
        "priorityClassName": "own",
    }
    if component != "migrations":
        own["topologySpreadConstraints"] = [constraint]
    general: Object = {
        "envFrom": [{"configMapRef": {"name": "general"}}],
        "nodeSelector": {"pool": "general"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    }
    objects = helm.render("spoke-app", merged(APP_VALUES, general | {component: own}))
    for other in COMPONENTS:
        item = component_of(objects, other)
        pod = pod_of(item)
        for container in pod["containers"] + pod.get("initContainers", []):
            names = [source["configMapRef"]["name"] for source in container["envFrom"]]
            assert names == (["general", "own"] if other == component else ["general"])
            assert environment_of(container).get("WHO") == ("rel" if other == component else None)
        assert pod["affinity"] == {"podAntiAffinity": {}}, "what is null is the general value"
        if other != component:
            assert (pod["nodeSelector"], pod["tolerations"]) == (general["nodeSelector"], general["tolerations"])
            continue
        assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"pool": component}, "own")
        assert not pod.get("tolerations")
        if component != "migrations":
            selector = item["spec"]["selector"]
            assert pod["topologySpreadConstraints"] == [constraint | {"labelSelector": selector}]


def test_every_variable_is_one_that_the_library_reads(helm: Helm) -> None:
    known = {str(field.validation_alias) for field in Settings.model_fields.values()} | OPERATORS_OWN
    for item in of_kind(helm.render("spoke-app", APP_VALUES), *WITH_PODS):
        for container in pod_of(item)["containers"]:
            assert environment_of(container).keys() <= known, item["metadata"]["name"]


def test_replicas_stand_in_for_one_another(helm: Helm) -> None:
    """One alone is under no budget: it would either hold up every drain or none."""
    scaled = {"enabled": True, "minReplicas": 2}
    dashboard = {"enabled": True, "hosts": ["a.test"], "token": {"secretName": "token"}}
    notify = {"enabled": True, "slack": {"secretName": "a"}}
    cases: tuple[tuple[str, Object], ...] = (
        ("tasks", {"tasks": APP_VALUES["tasks"]}),
        ("tasks", {"tasks": APP_VALUES["tasks"] | {"replicas": 1, "autoscaling": scaled}}),
        ("sync", {"sync": {"replicas": 2}}),
        ("dashboard", {"dashboard": dashboard | {"replicas": 2}}),
        ("notify", {"notify": notify | {"replicas": 2}}),
        ("worker-a", {"workers": {"a": {"replicas": 2}}}),
        ("worker-a", {"workers": {"a": {"autoscaling": scaled}}}),
    )
    for component, values in cases:
        objects = helm.render("spoke-app", APP_VALUES | {"tasks": {"enabled": False}} | values)
        (budget,) = of_kind(objects, "PodDisruptionBudget")
        deployment = named(objects, "Deployment", f"rel-spoke-app-{component}")
        assert budget["metadata"]["name"] == deployment["metadata"]["name"]
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        assert budget["spec"]["maxUnavailable"] == 1
        (spread,) = pod_of(deployment)["topologySpreadConstraints"]
        assert spread["labelSelector"] == deployment["spec"]["selector"]
        assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    alone = {
        "tasks": APP_VALUES["tasks"] | {"replicas": 1},
        "dashboard": dashboard,
        "notify": notify,
        "workers": {"a": {}},
    }
    assert of_kind(helm.render("spoke-app", APP_VALUES | alone), "PodDisruptionBudget") == []


def test_objects_of_ones_own_are_the_releases(helm: Helm) -> None:
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-own"}, "data": {"a": "b"}}
    objects = helm.render("spoke-app", APP_VALUES | {"extraObjects": [own]})
    assert named(objects, "ConfigMap", "rel-own")["data"] == {"a": "b"}
