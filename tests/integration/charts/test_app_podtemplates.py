"""The PodTemplates of the application's chart, and its `helm test`."""

from __future__ import annotations

from decimal import Decimal

import pytest

from spoke_jobs.contract import names
from spoke_jobs.contract.allowed_types import allows_type
from spoke_jobs.contract.standby import ANNOTATION_STANDBY, LABEL_STANDBY, PORT
from spoke_jobs.registry import CHECK
from spoke_jobs_operator.core.objects.template_annotations import (
    ANNOTATION_COPIED_LABELS,
    ResourceCaps,
    StandbyBounds,
    read_bounds,
    read_caps,
)

from .conftest import APP_VALUES, WITH_PODS, Helm, Refused, environment_of, merged, named, of_kind, pod_of


def test_pod_templates_are_what_the_operator_takes(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES | {"podTemplates": {"large": {}}})
    templates = of_kind(objects, "PodTemplate")
    assert [template["metadata"]["name"] for template in templates] == ["default", "large"]
    for template in templates:
        assert template["metadata"]["labels"][names.LABEL_TEMPLATE] == "true"
        pod = pod_of(template)
        assert [container["name"] for container in pod["containers"]] == [names.CONTAINER]
        assert pod["serviceAccountName"] == "rel-spoke-app-jobs"
        assert pod["automountServiceAccountToken"] is False


def test_a_template_says_what_is_different(helm: Helm) -> None:
    values = APP_VALUES | {
        "env": [{"name": "PLACE", "value": "{{ .Release.Namespace }}"}],
        "podTemplateDefaults": {"nodeSelector": {"disk": "ssd"}, "labels": {"team": "a"}},
        "podTemplates": {
            "large": {
                "resources": {"requests": {"memory": "2Gi"}},
                "env": [{"name": "SIZE", "value": "large"}],
                "readOnlyRootFilesystem": False,
                "terminationGracePeriodSeconds": 0,
            }
        },
    }
    objects = helm.render("spoke-app", values, namespace="somewhere")
    large, default = (pod_of(named(objects, "PodTemplate", name)) for name in ("large", "default"))
    assert large["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "2Gi"},
        "limits": {"memory": "512Mi"},
    }
    assert large["terminationGracePeriodSeconds"] == 0
    assert large["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert default["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert environment_of(large["containers"][0])["SIZE"] == "large"
    assert "SIZE" not in environment_of(default["containers"][0])
    assert environment_of(default["containers"][0])["PLACE"] == "somewhere"
    assert large["nodeSelector"] == default["nodeSelector"] == {"disk": "ssd"}


def test_a_template_overrides_a_default_also_with_what_is_empty(helm: Helm) -> None:
    """Also the account whose rights it has: the chart binds the one with which the pod runs."""
    defaults = {
        "automountServiceAccountToken": True,
        "serviceAccountName": "reader",
        "allowedTypes": ["export"],
        "maxResources": {"cpu": 4},
    }
    empty = {
        "automountServiceAccountToken": False,
        "serviceAccountName": "",
        "allowedTypes": None,
        "maxResources": {"cpu": None},
    }
    values = APP_VALUES | {"podTemplateDefaults": defaults, "podTemplates": {"empty": empty}}
    objects = helm.render("spoke-app", values)
    for name, account, mounts in (("empty", "rel-spoke-app-jobs", False), ("default", "reader", True)):
        template = named(objects, "PodTemplate", name)
        pod = pod_of(template)
        assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == (account, mounts)
        assert ("annotations" in template["metadata"]) is mounts
        (subject,) = named(objects, "RoleBinding", f"rel-spoke-app-run-{name}")["subjects"]
        assert subject["name"] == account


@pytest.mark.parametrize("where", ["podTemplateDefaults", "podTemplates"])
def test_null_takes_a_default_of_the_resources_back(helm: Helm, where: str) -> None:
    """It is Kubernetes' word for "no limit", and a merge of the two would leave the default."""
    none = {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": None}}}
    values = {"podTemplateDefaults": none} if where == "podTemplateDefaults" else {"podTemplates": {"default": none}}
    objects = helm.render(
        "spoke-app", APP_VALUES | values | {"podTemplates": {"other": {}, **values.get("podTemplates", {})}}
    )
    default, other = (pod_of(named(objects, "PodTemplate", name)) for name in ("default", "other"))
    assert default["containers"][0]["resources"] == {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {}}
    kept = {"limits": {"memory": "512Mi"}} if where == "podTemplates" else {"limits": {}}
    assert other["containers"][0]["resources"].items() >= kept.items(), "a template's own null is its own"


@pytest.mark.parametrize("tokens", [False, True])
def test_what_is_mounted_for_all_is_there_wherever_the_image_runs(helm: Helm, tokens: bool) -> None:
    """A CA that the database's URL names: whoever lacks it can't connect."""
    values = {
        "tasks": APP_VALUES["tasks"] | {"tokens": {"enabled": tokens}},
        "volumes": [{"name": "ca", "secret": {"secretName": "{{ .Release.Name }}-ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/{{ .Release.Name }}"}],
        "podSecurityContext": {"fsGroup": 10001, "seccompProfile": {"type": "Localhost", "localhostProfile": "a"}},
        "podTemplates": {
            "default": {"volumes": [{"name": "b", "emptyDir": {}}], "volumeMounts": [{"name": "b", "mountPath": "/b"}]}
        },
    }
    items = of_kind(helm.render("spoke-app", APP_VALUES | values), *WITH_PODS)
    assert {item["kind"] for item in items} == {"Deployment", "Job", "PodTemplate", "Pod"}
    for item in items:
        pod, name = pod_of(item), item["metadata"]["name"]
        assert [each for each in pod["volumes"] if each["name"] == "ca"] == [
            {"name": "ca", "secret": {"secretName": "rel-ca"}}
        ], name
        for container in pod["containers"] + pod.get("initContainers", []):
            mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
            assert (mounts["ca"], mounts["tmp"]) == ("/etc/rel", "/tmp"), name
            assert mounts.keys() <= {each["name"] for each in pod["volumes"]}, name
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroup": 10001,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "a"},
        }, name


def test_a_template_may_have_its_own_image_sidecars_hosts_and_topology(helm: Helm) -> None:
    digest = "sha256:" + "0" * 64
    constraint = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    values = {
        "image": {"digest": digest},
        "podTemplates": {
            "ml": {
                "image": {"repository": "ml", "pullPolicy": "Always"},
                "initContainers": [{"name": "first", "image": "first"}],
                "sidecars": [{"name": "proxy", "image": "proxy:{{ .Release.Name }}"}],
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
                "topologySpreadConstraints": [constraint],
                "copiedLabels": ["team", "example.com/cost-center"],
            },
            "pinned": {"image": {"digest": "sha256:" + "1" * 64}},
        },
    }
    objects = helm.render("spoke-app", merged(APP_VALUES, values))
    ml, default = (named(objects, "PodTemplate", name) for name in ("ml", "default"))
    (job,) = pod_of(ml)["containers"]
    assert (job["image"], job["imagePullPolicy"]) == ("ml:1.2", "Always")
    assert pod_of(default)["containers"][0]["image"] == f"shop@{digest}"
    assert pod_of(named(objects, "PodTemplate", "pinned"))["containers"][0]["image"] == "shop@sha256:" + "1" * 64
    sidecar, first = pod_of(ml)["initContainers"]
    assert sidecar == {"name": "proxy", "image": "proxy:rel", "restartPolicy": "Always"}, "it ends with the job"
    assert first["name"] == "first"
    assert pod_of(ml)["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["db"]}]
    (spread,) = pod_of(ml)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= ml["template"]["metadata"]["labels"].items()
    assert ml["metadata"]["annotations"] == {ANNOTATION_COPIED_LABELS: "team,example.com/cost-center"}
    assert "annotations" not in default["metadata"]
    assert not {"initContainers", "hostAliases", "topologySpreadConstraints"} & pod_of(default).keys()


def test_what_a_template_lets_jobs_ask_for_is_as_the_operator_reads_it(helm: Helm) -> None:
    values = {
        "podTemplateDefaults": {"allowedResources": ["cpu", "memory"], "maxResources": {"cpu": 4, "memory": "8Gi"}},
        "podTemplates": {
            "large": {
                "allowedTypes": ["report", "import_*"],
                "minResources": {"cpu": "50m"},
                "maxResources": {"cpu": None, "memory": 5_000_000_000},
            },
            "nobodys": {"allowedTypes": []},
        },
    }
    objects = helm.render("spoke-app", merged(APP_VALUES, values))
    given = {name: named(objects, "PodTemplate", name)["metadata"]["annotations"] for name in ("default", "large")}
    assert read_caps(given["default"]) == ResourceCaps(
        frozenset({"cpu", "memory"}), {}, {"cpu": Decimal(4), "memory": Decimal(8 * 2**30)}
    )
    assert read_caps(given["large"]) == ResourceCaps(
        frozenset({"cpu", "memory"}), {"cpu": Decimal("0.05")}, {"memory": Decimal(5_000_000_000)}
    )
    assert allows_type(given["default"], "anything")
    assert [allows_type(given["large"], name) for name in ("report", "import_all", "export")] == [True, True, False]
    nobodys = named(objects, "PodTemplate", "nobodys")["metadata"]["annotations"]
    assert not allows_type(nobodys, "report")


def test_a_template_asks_for_standby_pods_that_the_operator_alone_reaches(helm: Helm) -> None:
    values = {"podTemplates": {"default": {"standby": "1-5"}, "large": {}}}
    objects = helm.render("spoke-app", merged(APP_VALUES, values))
    annotations = named(objects, "PodTemplate", "default")["metadata"]["annotations"]
    assert read_bounds(annotations[ANNOTATION_STANDBY]) == StandbyBounds(1, 5)
    assert ANNOTATION_STANDBY not in named(objects, "PodTemplate", "large")["metadata"].get("annotations", {})
    policy = named(objects, "NetworkPolicy", "rel-spoke-app-standby")["spec"]
    assert policy["podSelector"]["matchLabels"][LABEL_STANDBY] == "true"
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": PORT, "protocol": "TCP"}]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]] == ["operator"]
    without = helm.render("spoke-app", APP_VALUES)
    assert "rel-spoke-app-standby" not in {item["metadata"]["name"] for item in of_kind(without, "NetworkPolicy")}


@pytest.mark.parametrize(
    ("standby", "says"),
    [("5-2", "must not be over the second"), ("1-600", "at most 500"), ("five", "does not match pattern")],
)
def test_numbers_of_standby_pods_that_make_no_sense_are_refused(helm: Helm, standby: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        helm.render("spoke-app", merged(APP_VALUES, {"podTemplates": {"default": {"standby": standby}}}))


def test_helm_test_dispatches_as_a_pod_without_credentials(helm: Helm) -> None:
    (test,) = of_kind(helm.render("spoke-app", APP_VALUES), "Pod")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod_of(test)["containers"]
    assert container["command"][:3] == ["spoke-jobs", "dispatch", CHECK]
    assert environment_of(container)["SPOKE_SUBMIT"] == "sync"
    assert not of_kind(helm.render("spoke-app", APP_VALUES | {"sync": {"enabled": False}}), "Pod")
