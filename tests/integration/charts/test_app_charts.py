"""The application's chart, alone and as the dependency of the texting example's."""

from __future__ import annotations

import pytest

from spoke_jobs.cluster.rights import RIGHTS
from spoke_jobs.contract import names
from spoke_jobs.registry import CHECK
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions
from spoke_jobs.tasks.server.serve import ACKNOWLEDGE_SECONDS, RECORD_SECONDS

from .conftest import APP_VALUES, ROOT, WITH_PODS, Helm, Object, environment_of, named, of_kind, pod_of
from .test_operator_chart import rights

OPERATORS_OWN = {"SPOKE_HEALTH_PORT"}
"""Variables of a single command, not among the library's settings."""


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


def test_what_is_the_clusters_is_no_other_releases(helm: Helm) -> None:
    """A ClusterRole is of no namespace: app in shop-web is another release than web-app in shop."""
    values = APP_VALUES | {"tasks": {"tokens": {"enabled": True}}}
    names = []
    for namespace, fullname in (("shop", "web-app"), ("shop-web", "app"), ("s" * 63, "a" * 52), ("s" * 63, "b" * 52)):
        objects = helm.render("spoke-app", values | {"fullnameOverride": fullname}, namespace=namespace)
        (role,), (binding,) = of_kind(objects, "ClusterRole"), of_kind(objects, "ClusterRoleBinding")
        assert binding["roleRef"]["name"] == binding["metadata"]["name"] == role["metadata"]["name"]
        assert len(role["metadata"]["name"]) <= 63
        names.append(role["metadata"]["name"])
    assert names[0].startswith("shop-web-app-token-reviews-")
    assert len(set(names)) == len(names)


def test_without_templates_there_is_nothing_to_test(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES | {"podTemplates": {"default": None}})
    assert of_kind(objects, "PodTemplate", "Pod") == []


def test_every_variable_is_one_that_the_library_reads(helm: Helm) -> None:
    known = {str(field.validation_alias) for field in Settings.model_fields.values()} | OPERATORS_OWN
    for item in of_kind(helm.render("spoke-app", APP_VALUES), *WITH_PODS):
        for container in pod_of(item)["containers"]:
            assert environment_of(container).keys() <= known, item["metadata"]["name"]


def test_pods_without_credentials_leave_creating_to_sync(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    for kind, name in (("PodTemplate", "default"), ("Deployment", "rel-spoke-app-tasks")):
        assert environment_of(pod_of(named(objects, kind, name))["containers"][0])["SPOKE_SUBMIT"] == "sync"
    sync = pod_of(named(objects, "Deployment", "rel-spoke-app-sync"))
    assert sync["serviceAccountName"] == "rel-spoke-app-sync"
    assert "SPOKE_SUBMIT" not in environment_of(sync["containers"][0])


def test_rights(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    assert {item["metadata"]["name"]: rights(item["rules"]) for item in of_kind(objects, "Role")} == {
        "rel-spoke-app-sync": {
            ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch", "create", "patch"},
            ("jobs.spoke.dev", "spokejobs/status"): {"patch"},
        },
        "rel-spoke-app-runner": {("jobs.spoke.dev", "spokejobs"): {"create"}},
        "rel-spoke-app-reader": {
            ("jobs.spoke.dev", "spokejobs"): {"get", "list", "watch"},
            ("", "configmaps", "spoke-operator-state"): {"get"},
            ("", "pods"): {"get"},
            ("", "pods/log"): {"get"},
            ("", "events"): {"list"},
        },
    }


def test_the_roles_are_what_check_asks_for(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    for account, needed in RIGHTS.items():
        given = rights(named(objects, "Role", f"rel-spoke-app-{account}")["rules"])
        asked: dict[tuple[str, ...], set[str]] = {}
        for right in needed:
            resource = right.resource + (f"/{right.subresource}" if right.subresource else "")
            key = (right.group, resource, *([right.name] if right.name else []))
            asked.setdefault(key, set()).add(right.verb)
        assert given == asked, account


def test_migrations_need_nothing_of_the_release(helm: Helm) -> None:
    """A hook that runs first finds none of the release's objects."""
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = pod_of(job)
    assert "serviceAccountName" not in pod
    assert [item["name"] for item in pod["initContainers"]] == ["await-database"]
    assert pod["containers"][0]["command"] == ["spoke-jobs", "migrate"]


def test_migrations_can_be_made_anew_by_their_label(helm: Helm) -> None:
    """As docs/restoring.md has it, out of all the hooks of the release."""
    hooks = [item for item in helm.render("texting", release="texting") if _is_hook(item)]
    chosen = [item for item in hooks if item["metadata"]["labels"]["app.kubernetes.io/component"] == "migrations"]
    made = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in chosen}
    assert made == {"job/texting-migrate", "networkpolicy/texting-migrations"}
    page = (ROOT / "docs/restoring.md").read_text()
    assert "--selector=app.kubernetes.io/component=migrations" in page
    assert all(name in page for name in made)


def _is_hook(item: Object) -> bool:
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def test_migrations_run_one_after_the_other(helm: Helm) -> None:
    steps = [{"name": name, "command": ["run", name]} for name in ("one", "two", "three")]
    (job,) = of_kind(helm.render("spoke-app", APP_VALUES | {"migrations": {"steps": steps}}), "Job")
    pod = pod_of(job)
    assert [item["name"] for item in pod["initContainers"]] == ["await-database", "one", "two"]
    assert [item["command"] for item in pod["containers"]] == [["run", "three"]]


def test_tasks_are_reached_replica_by_replica(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES)
    service = named(objects, "Service", "rel-spoke-app-tasks")
    deployment = named(objects, "Deployment", "rel-spoke-app-tasks")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    url = environment_of(pod_of(named(objects, "PodTemplate", "default"))["containers"][0])["SPOKE_TASKS_URL"]
    assert url == f"http://{service['metadata']['name']}:8080"


def test_tasks_that_scale_leave_their_number_to_who_scales_them(helm: Helm) -> None:
    scaling = {"enabled": True, "minReplicas": 3, "maxReplicas": 7, "targetCPUUtilizationPercentage": 60}
    objects = helm.render("spoke-app", APP_VALUES | {"tasks": APP_VALUES["tasks"] | {"autoscaling": scaling}})
    deployment = named(objects, "Deployment", "rel-spoke-app-tasks")
    assert "replicas" not in deployment["spec"], "an upgrade would set it back"
    scaler = named(objects, "HorizontalPodAutoscaler", "rel-spoke-app-tasks")["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 7)
    (metric,) = scaler["metrics"]
    assert metric == {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
    }
    (container,) = pod_of(deployment)["containers"]
    assert "cpu" in container["resources"]["requests"], "of what it is a part"
    assert of_kind(helm.render("spoke-app", APP_VALUES), "HorizontalPodAutoscaler") == []


def test_a_replica_of_the_tasks_leaves_the_name_before_it_stops(helm: Helm) -> None:
    pod = pod_of(named(helm.render("spoke-app", APP_VALUES), "Deployment", "rel-spoke-app-tasks"))
    (container,) = pod["containers"]
    leaving = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(environment_of(container)["SPOKE_TASKS_GRACE_SECONDS"])
    ending = RECORD_SECONDS + ACKNOWLEDGE_SECONDS + DispatcherOptions().exit_seconds
    assert pod["terminationGracePeriodSeconds"] >= leaving + grace + ending
    assert grace == Settings.model_fields["tasks_grace_seconds"].default
    beyond = pod["terminationGracePeriodSeconds"] - leaving - grace
    said = (ROOT / "docs/reference/settings.md").read_text()
    assert f"The pod's grace must exceed it by {beyond:.0f} s" in said, "for whoever writes a chart of their own"


def test_callers_of_the_tasks_show_tokens_where_the_cluster_may_review_them(helm: Helm) -> None:
    values = {
        "tasks": {"tokens": {"enabled": True, "callers": ["other/web"]}},
        "podTemplates": {"default": {}, "large": {"serviceAccountName": "big"}},
    }
    objects = helm.render("spoke-app", APP_VALUES | values, namespace="shop")
    pod = pod_of(named(objects, "Deployment", "rel-spoke-app-tasks"))
    environment = environment_of(pod["containers"][0])
    own = {f"shop/rel-spoke-app-{name}" for name in ("runner", "jobs", "tasks")}
    assert set(environment["SPOKE_TASKS_CALLERS"].split(",")) == own | {"shop/big", "other/web"}
    assert "SPOKE_TASKS_KEY" not in environment
    assert pod["automountServiceAccountToken"] is True
    (role,) = of_kind(objects, "ClusterRole")
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [(["tokenreviews"], ["create"])]
    for item in (named(objects, "PodTemplate", "large"), *of_kind(objects, "Pod")):
        spec = item["spec"] if item["kind"] == "Pod" else pod_of(item)
        (container,) = spec["containers"]
        token = environment_of(container)["SPOKE_TASKS_TOKEN_FILE"]
        (mount,) = [each for each in container["volumeMounts"] if token.startswith(f"{each['mountPath']}/")]
        (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
        assert volume["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "spoke-tasks"
    for item in (*of_kind(objects, "Deployment"), *of_kind(objects, "Job"), *of_kind(objects, "PodTemplate")):
        volumes = {each["name"] for each in pod_of(item).get("volumes", ())}
        mounts = {each["name"] for part in pod_of(item)["containers"] for each in part.get("volumeMounts", ())}
        assert mounts <= volumes, f"{item['kind']} {item['metadata']['name']}"
    assert of_kind(helm.render("spoke-app", APP_VALUES), "ClusterRole") == []


def test_without_tasks_nothing_is_said_of_them(helm: Helm) -> None:
    objects = helm.render("spoke-app", APP_VALUES | {"tasks": {"enabled": False}})
    assert [item["metadata"]["name"] for item in of_kind(objects, "Service")] == ["rel-spoke-app-sync"]
    for item in of_kind(objects, *WITH_PODS):
        assert not any("TASKS" in name for name in environment_of(pod_of(item)["containers"][0]))


def test_replicas_stand_in_for_one_another(helm: Helm) -> None:
    """One alone is under no budget: it would either hold up every drain or none."""
    scaled = {"enabled": True, "minReplicas": 2}
    for component, values in (
        ("tasks", {}),
        ("tasks", {"tasks": APP_VALUES["tasks"] | {"replicas": 1, "autoscaling": scaled}}),
        ("sync", {"sync": {"replicas": 2}, "tasks": {"enabled": False}}),
    ):
        objects = helm.render("spoke-app", APP_VALUES | values)
        (budget,) = of_kind(objects, "PodDisruptionBudget")
        deployment = named(objects, "Deployment", f"rel-spoke-app-{component}")
        assert budget["metadata"]["name"] == deployment["metadata"]["name"]
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        assert budget["spec"]["maxUnavailable"] == 1
        (spread,) = pod_of(deployment)["topologySpreadConstraints"]
        assert spread["labelSelector"] == deployment["spec"]["selector"]
        assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    alone = {"tasks": APP_VALUES["tasks"] | {"replicas": 1}}
    assert of_kind(helm.render("spoke-app", APP_VALUES | alone), "PodDisruptionBudget") == []


def test_accounts_have_what_clouds_give_rights_by(helm: Helm) -> None:
    given = {name: {"annotations": {"cloud/role": name}} for name in ("jobs", "sync", "tasks")}
    objects = helm.render("spoke-app", APP_VALUES | {"serviceAccounts": given})
    for name in given:
        account = named(objects, "ServiceAccount", f"rel-spoke-app-{name}")
        assert account["metadata"]["annotations"] == {"cloud/role": name}


def test_helm_test_dispatches_as_a_pod_without_credentials(helm: Helm) -> None:
    (test,) = of_kind(helm.render("spoke-app", APP_VALUES), "Pod")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod_of(test)["containers"]
    assert container["command"][:3] == ["spoke-jobs", "dispatch", CHECK]
    assert environment_of(container)["SPOKE_SUBMIT"] == "sync"
    assert not of_kind(helm.render("spoke-app", APP_VALUES | {"sync": {"enabled": False}}), "Pod")


def test_objects_of_ones_own_are_the_releases(helm: Helm) -> None:
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-own"}, "data": {"a": "b"}}
    objects = helm.render("spoke-app", APP_VALUES | {"extraObjects": [own]})
    assert named(objects, "ConfigMap", "rel-own")["data"] == {"a": "b"}


def test_example_dispatches_as_the_runners_account(helm: Helm) -> None:
    objects = helm.render("texting", release="texting")
    pod = pod_of(named(objects, "Deployment", "texting"))
    assert pod["serviceAccountName"] == "texting-runner"
    (binding,) = [item for item in of_kind(objects, "RoleBinding") if item["metadata"]["name"] == "texting-runner"]
    assert binding["subjects"][0]["name"] == "texting-runner"
    environment = environment_of(pod["containers"][0])
    assert environment["JOB_RUNNER"] == "kubernetes"
    assert environment["TEXTING_CARRIER_URL"] == "http://texting-carrier:8090"


def test_example_has_its_database_before_the_migrations(helm: Helm) -> None:
    objects = helm.render("texting", release="texting")
    assert hook_weight(named(objects, "Secret", "texting-database")) < hook_weight(
        named(objects, "StatefulSet", "texting-database")
    )
    assert hook_weight(named(objects, "StatefulSet", "texting-database")) < hook_weight(
        named(objects, "Job", "texting-migrate")
    )


def hook_weight(item: Object) -> int:
    return int(item["metadata"]["annotations"]["helm.sh/hook-weight"])
