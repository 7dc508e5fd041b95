"""The task deployment of the application's chart."""

from __future__ import annotations

from spoke_jobs.settings import Settings
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions
from spoke_jobs.tasks.server.serve import ACKNOWLEDGE_SECONDS, RECORD_SECONDS

from .conftest import APP_VALUES, ROOT, WITH_PODS, Helm, environment_of, named, of_kind, pod_of


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
