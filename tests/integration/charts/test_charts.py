"""What holds for all charts: lint, labels, and the `restricted` Pod Security Standard."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import (
    APP_VALUES,
    WITH_PODS,
    Helm,
    Object,
    Refused,
    merged,
    of_kind,
    pod_labels,
    pod_of,
    pods_of,
)

TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "jobs", "effect": "NoSchedule"}
PLACED = {"nodeSelector": {"disk": "ssd"}, "tolerations": [TOLERATION], "affinity": {"podAntiAffinity": {}}}
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": "{{ .Release.Name }}-own",
        "namespace": "{{ .Release.Namespace }}",
        "labels": {
            f"app.kubernetes.io/{name}": "own" for name in ("name", "instance", "component", "version", "part-of")
        },
    },
}
VARIANTS: dict[str, tuple[str, Object]] = {
    "operator": ("spoke-operator", {}),
    "operator, namespaced": (
        "spoke-operator",
        {"watchNamespaces": ["a", "b"], "crds": {"enabled": False}, "networkPolicy": {"enabled": False}},
    ),
    "operator, everything": (
        "spoke-operator",
        {
            "operator": {"maxRunning": 5_000_000, "maxRunningInQueue": 3, "leaseSeconds": 6, "logFormat": "plain"},
            "replicas": 3,
            "image": {"repository": "registry/op", "digest": "sha256:" + "0" * 64},
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccount": {"name": "given", "annotations": {"a": "b"}},
            "fullnameOverride": "given",
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "priorityClassName": "high",
            "networkPolicy": {
                "dns": {"to": [], "ports": [53, 5353]},
                "apiServer": {"to": [{"ipBlock": {"cidr": "172.18.0.2/32"}}], "ports": [6443]},
                "ingress": {"metrics": [{"namespaceSelector": {"matchLabels": {"team": "watching"}}}]},
            },
            "extraObjects": [CONFIG_MAP],
            **PLACED,
        },
    ),
    "app": ("spoke-app", APP_VALUES),
    "app, jobs only": (
        "spoke-app",
        APP_VALUES
        | {"tasks": {"enabled": False}, "migrations": {"enabled": False}, "sync": {"enabled": False}}
        | {"runner": {"serviceAccount": {"create": False, "name": "given"}}},
    ),
    "app, everything": (
        "spoke-app",
        APP_VALUES
        | PLACED
        | {
            "imagePullSecrets": [{"name": "registry"}],
            "priorityClassName": "high",
            "sync": {"replicas": 2, "podLabels": {"c": "d"}, "podAnnotations": {"a": "b"}},
            "notify": {"enabled": True, "replicas": 2, "slack": {"secretName": "shop-slack"}, "podLabels": {"c": "d"}},
            "serviceAccounts": {
                name: {"annotations": {"cloud/role": name}} for name in ("jobs", "sync", "tasks", "notify")
            },
            "networkPolicy": {
                "database": {
                    "to": [{"podSelector": {"matchLabels": {"of": "{{ .Release.Name }}"}}}],
                    "ports": [5432, 6432],
                },
                "egress": {
                    "jobs": [
                        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}
                    ],
                    "tasks": [{}],
                    "migrations": [{"ports": [{"port": 8000, "endPort": 8999, "protocol": "TCP"}]}],
                },
                "ingress": {
                    "tasks": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
                    "metrics": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}],
                },
            },
            "extraObjects": [CONFIG_MAP],
            "env": [{"name": "WHERE", "value": "{{ .Release.Namespace }}"}],
            "volumes": [{"name": "ca", "configMap": {"name": "database-ca"}}],
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/database", "readOnly": True}],
            "podSecurityContext": {"fsGroup": 10001, "fsGroupChangePolicy": "OnRootMismatch"},
            "envFrom": [{"configMapRef": {"name": "shop"}}],
            "podTemplates": {
                "default": {},
                "large": {
                    "resources": {"requests": {"cpu": 2, "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
                    "env": [{"name": "SIZE", "value": "large"}],
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                    "readOnlyRootFilesystem": False,
                    "automountServiceAccountToken": True,
                    "serviceAccountName": "given",
                    "terminationGracePeriodSeconds": 0,
                    "runtimeClassName": "gvisor",
                    **PLACED,
                },
            },
            "migrations": {
                "steps": [{"name": "one", "command": ["a"]}, {"name": "two", "command": ["b", "c: d"]}],
                "hookWeight": 3,
                "podLabels": {"c": "d"},
                "podAnnotations": {"a": "b"},
            },
        },
    ),
    "app, tokens and scaling": (
        "spoke-app",
        {name: value for name, value in APP_VALUES.items() if name != "tasks"}
        | {
            "tasks": {
                "tokens": {"enabled": True, "callers": ["other/web"]},
                "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 30},
            },
            "monitoring": {
                "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
                "rules": {"enabled": True, "labels": {"release": "prometheus"}, "without": ["SpokeTasksStrangers"]},
                "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Jobs"}},
            },
        },
    ),
    "app, dashboard": (
        "spoke-app",
        APP_VALUES
        | {
            "secretsAsFiles": True,
            "dashboard": {
                "enabled": True,
                "replicas": 2,
                "hosts": ["jobs.example.com", "jobs.internal"],
                "token": {"secretName": "{{ .Release.Name }}-token"},
                "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "jobs-tls"},
                "progress": {
                    "enabled": True,
                    "key": {"secretName": "{{ .Release.Name }}-progress"},
                    "origins": ["https://example.com"],
                    "messages": True,
                    "hosts": ["app.example.com"],
                    "ingress": {"enabled": True},
                    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
                },
            },
            "networkPolicy": {"ingress": {"dashboard": [{"namespaceSelector": {"matchLabels": {"of": "ingress"}}}]}},
        },
    ),
    "app, network open": ("spoke-app", APP_VALUES | {"networkPolicy": {"enabled": False}}),
    "texting": ("texting", {}),
    "texting, database elsewhere": ("texting", {"postgresql": {"enabled": False}, "web": {"replicas": 3}}),
    "texting, database in reach": ("texting", {"postgresql": {"serviceType": "NodePort", "args": ["-c", "a=b"]}}),
}
every_variant = pytest.mark.parametrize(("chart", "values"), VARIANTS.values(), ids=list(VARIANTS))


@every_variant
def test_lints(helm: Helm, chart: str, values: Object) -> None:
    helm.lint(chart, values)


@pytest.mark.parametrize(
    ("chart", "taken", "refused"),
    [
        ("spoke-operator", ("1.31.0", "1.20.0"), "1.30.9"),
        ("spoke-app", ("1.31.4-gke.100", "1.30.0"), "1.30.14-eks-1"),
        ("texting", ("1.40.1", "1.28.0"), "1.30.9"),
    ],
)
def test_kubernetes_must_know_selectable_fields(helm: Helm, chart: str, taken: tuple[str, ...], refused: str) -> None:
    """By which field selectors find SpokeJobs by their outcome: in 1.30 they were off.

    Without a cluster, whatever version Helm assumes is taken: it depends on who built Helm.
    """
    values = APP_VALUES if chart == "spoke-app" else {}
    for version in taken:
        assert helm.render(chart, values, kube_version=version)
    with pytest.raises(Refused, match="incompatible with Kubernetes v1.30"):
        helm.render(chart, values, kube_version=refused)


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_a_security_context_that_openshift_takes(helm: Helm, chart: str) -> None:
    """It assigns users itself: no pod names one, and a field that is null is left out."""
    values = {
        "podSecurityContext": {"runAsUser": None, "seccompProfile": None, "fsGroup": 5},
        "securityContext": {"runAsUser": None, "privileged": False},
    }
    for name, pod in pods_of(helm.render(chart, values | (APP_VALUES if chart == "spoke-app" else {}))):
        assert pod["securityContext"] == {"runAsNonRoot": True, "fsGroup": 5}, name
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
            }, name


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_common_labels_are_on_every_object_and_pod_and_in_no_selector(helm: Helm, chart: str) -> None:
    given = {"team": "payments", "app.kubernetes.io/name": "wrong"}
    monitoring = {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}}
    values = {"commonLabels": given, "monitoring": monitoring} | (APP_VALUES if chart == "spoke-app" else {})
    for item in helm.render(chart, values):
        name = item["metadata"]["name"]
        assert item["metadata"]["labels"]["team"] == "payments", name
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] == chart, name
        if item["kind"] in WITH_PODS:
            assert pod_labels(item)["team"] == "payments", name
        if item["kind"] in ("Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"):
            assert "team" not in json.dumps(item["spec"].get("selector", item["spec"].get("podSelector"))), name


@every_variant
def test_every_pod_passes_restricted_bounds_its_memory_may_pull_its_image_and_has_no_secret_written_down(
    helm: Helm, chart: str, values: Object
) -> None:
    pods = pods_of(helm.render(chart, values))
    secrets = values.get("imagePullSecrets") or values.get("spoke-app", {}).get("imagePullSecrets")
    assert pods
    for name, pod in pods:
        assert pod.get("imagePullSecrets") == secrets, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        own = [volume for volume in pod.get("volumes", []) if volume not in values.get("volumes", [])]
        assert {kind for volume in own for kind in volume} <= {"name", "emptyDir", "projected", "secret"}, name
        for volume in own:  # nothing else that `restricted` lets in is needed
            sources = volume.get("projected", {}).get("sources", [])
            assert all(set(source) == {"serviceAccountToken"} for source in sources), name
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            for variable in container.get("env", []):
                is_path = variable["name"].endswith("_FILE")
                secret = not is_path and any(word in variable["name"] for word in ("URL", "KEY", "PASSWORD"))
                if secret and not str(variable.get("value", "")).startswith("http://"):
                    assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"


@every_variant
def test_tokens_only_where_they_are_meant(helm: Helm, chart: str, values: Object) -> None:
    objects = helm.render(chart, values, release="rel")
    holders = {name for name, pod in pods_of(objects) if pod["automountServiceAccountToken"]}
    allowed = {"Deployment rel-spoke-operator", "Deployment given", "Deployment rel-spoke-app-sync",
               "Deployment rel-sync", "Deployment rel", "PodTemplate large",
               "Pod rel-spoke-operator-test", "Pod given-test"}  # fmt: skip
    if values.get("tasks", {}).get("tokens", {}).get("enabled"):
        allowed.add("Deployment rel-spoke-app-tasks")  # it asks the API server about callers' tokens
    if values.get("dashboard", {}).get("enabled"):
        allowed.add("Deployment rel-spoke-app-dashboard")  # it reads what SpokeJobs wait for
    assert holders <= allowed
    assert all(item["automountServiceAccountToken"] is False for item in of_kind(objects, "ServiceAccount"))


@every_variant
def test_recommended_labels_and_namespace(helm: Helm, chart: str, values: Object) -> None:
    wanted = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "version", "part-of")}
    for item in helm.render(chart, values, namespace="somewhere"):
        assert wanted <= item["metadata"]["labels"].keys(), item["metadata"]["name"]
        if not item["kind"].startswith(("Cluster", "CustomResource", "ValidatingAdmission")):
            assert item["metadata"]["namespace"], item["metadata"]["name"]
            assert item["metadata"]["namespace"] in {"somewhere", "a", "b"}


@every_variant
def test_what_selects_pods_is_about_one_kind_of_pod_and_what_runs_for_long_is_probed(
    helm: Helm, chart: str, values: Object
) -> None:
    """Whom they select is told by one component's label, so a pod that is added later is not among them by chance."""
    objects = helm.render(chart, values)
    long = of_kind(objects, "Deployment", "StatefulSet")
    for item in long:
        selector = item["spec"]["selector"]["matchLabels"].items()
        assert [other for other in long if selector <= pod_labels(other).items()] == [item], item["metadata"]["name"]
        for container in pod_of(item)["containers"] if item["kind"] == "Deployment" else ():
            assert "readinessProbe" in container, item["metadata"]["name"]
            own = item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "spoke-jobs"
            assert "livenessProbe" in container or not own, item["metadata"]["name"]
    pods = [pod_labels(item) for item in of_kind(objects, *WITH_PODS)]
    for item in of_kind(objects, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        chosen = item["spec"].get("selector") or item["spec"]["podSelector"]
        chosen = chosen if item["kind"] == "Service" else chosen["matchLabels"]
        found = {labels["app.kubernetes.io/component"] for labels in pods if chosen.items() <= labels.items()}
        assert found == {chosen["app.kubernetes.io/component"]}, item["metadata"]["name"]


def given(name: str) -> Object:
    """Labels or annotations of the values, of which one is ours."""
    return {name: "mine", "mine": "a"}


NAME, COMPONENT, INSTANCE = (given(f"app.kubernetes.io/{name}") for name in ("name", "component", "instance"))
MONITORING: Object = {
    "serviceMonitor": {"enabled": True, "labels": NAME},
    "rules": {"enabled": True, "labels": NAME},
}


@pytest.mark.parametrize(
    ("chart", "values", "places"),
    [
        ("spoke-operator", {"podLabels": COMPONENT, "monitoring": MONITORING}, 3),
        (
            "spoke-app",
            {part: {"podLabels": INSTANCE} for part in ("sync", "tasks", "migrations")}
            | {"podTemplateDefaults": {"labels": COMPONENT}, "monitoring": MONITORING},
            6,
        ),
        ("spoke-app", {"podTemplates": {"default": {"labels": COMPONENT}}}, 1),
    ],
)
def test_labels_of_the_values_do_not_replace_ours(helm: Helm, chart: str, values: Object, places: int) -> None:
    """Or selectors would miss their pods; written twice, a strict reader refuses them."""
    texts = json.dumps(helm.render(chart, merged(APP_VALUES if chart == "spoke-app" else {}, values)))
    assert texts.count('"mine": "a"') >= places
    assert '": "mine"' not in texts


@pytest.mark.parametrize("tag", ["v1_", "_1.2.", "." + "x" * 61 + "-.y", "1.2"])
def test_the_label_of_the_version_is_one(helm: Helm, tag: str) -> None:
    for item in helm.render("spoke-app", merged(APP_VALUES, {"image": {"tag": tag}})):
        version = item["metadata"]["labels"]["app.kubernetes.io/version"]
        assert re.fullmatch(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", version)


def test_where_the_chart_s_own_pod_template_is_taken_away_there_is_no_test_by_it(helm: Helm) -> None:
    given = merged(APP_VALUES, {"podTemplates": {"default": None, "large": {}}})
    assert not [item for item in helm.render("spoke-app", given) if item["kind"] == "Pod"]
    by_name = helm.render("spoke-app", merged(given, {"test": {"podTemplate": "large"}}))
    assert [item for item in by_name if item["kind"] == "Pod"]
