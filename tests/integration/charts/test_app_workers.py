"""The workers of the application's chart."""

from __future__ import annotations

import pytest
from tests.commands import run_command

from spoke_jobs.model import ClaimFilter
from spoke_jobs.sync.worker_sets import read_worker_sets

from .conftest import APP_VALUES, Helm, Object, Refused, environment_of, named, of_kind, pod_of

WORKERS: Object = {
    "slow": {"queues": ["exports*", ""], "processes": 1, "graceSeconds": 300, "nodeSelector": {"pool": "slow"}},
    "quick": {"excludedQueues": ["exports*"], "types": ["mail"], "excludedTypes": ["in.*"], "replicas": 3},
}


def render(helm: Helm, workers: Object = WORKERS, **values: object) -> list[Object]:
    return helm.render("spoke-app", APP_VALUES | {"workers": workers} | values)


def worker(objects: list[Object], name: str, kind: str = "Deployment") -> Object:
    return named(objects, kind, f"rel-spoke-app-worker-{name}")


def test_each_worker_takes_its_part_of_the_jobs(helm: Helm) -> None:
    objects = render(helm)
    (slow,) = pod_of(worker(objects, "slow"))["containers"]
    (quick,) = pod_of(worker(objects, "quick"))["containers"]
    assert slow["args"] == [
        *("--processes=1", "--concurrency=50", "--batch=16", "--grace=300"),
        *("--queue=exports*", "--queue="),
    ]
    assert set(quick["args"][4:]) == {"--exclude-queue=exports*", "--type=mail", "--exclude-type=in.*"}
    for container in (slow, quick):
        help_ = run_command([*container["command"][1:], *container["args"], "--help"])
        assert help_.exit_code == 0, "the command line knows each option"
        assert environment_of(container)["JOB_RUNNER"] == "legacy"
        assert [item["name"] for item in container["env"]].count("JOB_RUNNER") == 1
        assert environment_of(container)["SPOKE_HEALTH_PORT"] == str(container["ports"][0]["containerPort"])
    assert pod_of(worker(objects, "slow"))["terminationGracePeriodSeconds"] > 300
    assert pod_of(worker(objects, "slow"))["nodeSelector"] == {"pool": "slow"}
    assert "nodeSelector" not in pod_of(worker(objects, "quick"))


def test_a_worker_of_a_lane_serves_the_runner_kubernetes_without_its_credentials(helm: Helm) -> None:
    objects = render(helm, {"small": {"lane": "worker", "replicas": 2}, "old": {}})
    deployment = worker(objects, "small")
    pod = pod_of(deployment)
    (small,), (old,) = pod["containers"], pod_of(worker(objects, "old"))["containers"]
    assert "--lane=worker" in small["args"]
    assert not any("lane" in argument for argument in old["args"])
    help_ = run_command([*small["command"][1:], *small["args"], "--help"])
    assert help_.exit_code == 0, "the command line knows each option"
    found, olds = environment_of(small), environment_of(old)
    assert (found["JOB_RUNNER"], olds["JOB_RUNNER"]) == ("kubernetes", "legacy")
    assert found["SPOKE_SUBMIT"] == "sync", "what its jobs dispatch needs no credentials either"
    assert pod["automountServiceAccountToken"] is False
    assert {name: value for name, value in found.items() if "DATABASE" in name} == {
        name: value for name, value in olds.items() if "DATABASE" in name
    }
    assert small["readinessProbe"] == old["readinessProbe"]


def test_the_selectors_of_workers_choose_their_own_pods(helm: Helm) -> None:
    objects = render(helm)
    for name in WORKERS:
        deployment, policy = worker(objects, name), worker(objects, name, "NetworkPolicy")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector == policy["spec"]["podSelector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert labels["app.kubernetes.io/component"] == f"worker-{name}"


def test_workers_may_be_scaled(helm: Helm) -> None:
    scaled = {"busy": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 5}}, "one": None}
    objects = render(helm, WORKERS | scaled)
    assert "replicas" not in worker(objects, "busy")["spec"]
    spec = worker(objects, "busy", "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"]["name"] == "rel-spoke-app-worker-busy"
    assert worker(objects, "one")["spec"]["replicas"] == 1


def test_a_worker_overrides_a_default_also_with_what_is_empty(helm: Helm) -> None:
    scaling = {"enabled": True, "by": "backlog", "minReplicas": 2, "jobsPerReplica": 4, "cooldownSeconds": 100}
    defaults = {"lane": "worker", "types": ["a"], "graceSeconds": 9, "jobMemory": "1Gi", "workerSeconds": 60}
    nothing = {"types": [], "graceSeconds": 0, "jobMemory": "", "workerSeconds": None}
    workers: Object = {
        "one": nothing
        | {
            "autoscaling": {"cooldownSeconds": 0, "minReplicas": 0, "jobsPerReplica": None},
            "resources": {"limits": {"memory": None}},
        },
        "two": {"lane": "", "workerSeconds": None, "autoscaling": {"enabled": False}, "replicas": 0},
        "rest": None,
    }
    objects = render(helm, workers, workerDefaults=defaults | {"autoscaling": scaling})
    for name in ("one", "two", "rest"):
        (container,) = pod_of(worker(objects, name))["containers"]
        assert run_command([*container["command"][1:], *container["args"], "--help"]).exit_code == 0, "each is known"
    (one,) = pod_of(worker(objects, "one"))["containers"]
    assert one["args"][3:] == ["--grace=0", "--lane=worker"]
    assert one["resources"] == {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {}}
    spec = worker(objects, "one", "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["cooldownPeriod"]) == (0, 0)
    assert spec["triggers"][0]["metadata"]["targetValue"] == "2", "its processes"
    (two,) = pod_of(worker(objects, "two"))["containers"]
    assert two["args"][3:] == ["--grace=9", "--job-memory=1Gi", "--type=a"]
    assert worker(objects, "two")["spec"]["replicas"] == 0
    (rest,) = pod_of(worker(objects, "rest"))["containers"]
    assert rest["args"][3:] == ["--grace=9", "--lane=worker", "--worker-seconds=60", "--job-memory=1Gi", "--type=a"]
    spec = worker(objects, "rest", "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["cooldownPeriod"]) == (2, 100)
    assert not [item for item in of_kind(objects, "ScaledObject") if item["metadata"]["name"].endswith("-two")]


BACKLOG = {"enabled": True, "by": "backlog", "minReplicas": 0, "maxReplicas": 5}


def test_workers_of_a_lane_are_scaled_down_to_none_by_what_sync_reports(helm: Helm) -> None:
    objects = render(
        helm,
        {
            "small": {"lane": "worker", "types": ["mail"], "processes": 3, "autoscaling": BACKLOG},
            "large": {"lane": "worker", "excludedTypes": ["mail"], "autoscaling": BACKLOG | {"jobsPerReplica": 8}},
            "old": {},
        },
    )
    assert not of_kind(objects, "HorizontalPodAutoscaler")
    assert "replicas" not in worker(objects, "small")["spec"]
    spec = worker(objects, "small", "ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == "rel-spoke-app-worker-small"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 5)
    (trigger,) = spec["triggers"]
    assert trigger["metadata"] == {
        "url": "http://rel-spoke-app-sync.default:8080/scale?workers=small",
        "valueLocation": "small.jobs",
        "targetValue": "3",
    }
    (of_large,) = worker(objects, "large", "ScaledObject")["spec"]["triggers"]
    assert of_large["metadata"]["targetValue"] == "8"
    (sync,) = pod_of(named(objects, "Deployment", "rel-spoke-app-sync"))["containers"]
    sets = read_worker_sets(environment_of(sync)["SPOKE_WORKER_SETS"])
    assert sets == {"small": ClaimFilter(types=("mail",)), "large": ClaimFilter(not_types=("mail",))}
    (service,) = [item for item in of_kind(objects, "Service") if item["metadata"]["name"] == "rel-spoke-app-sync"]
    assert [port["port"] for port in service["spec"]["ports"]] == [8080]


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        ({"slow": {"queue": ["a"]}}, "queue"),
        ({"Slow": {}}, "Slow"),
        ({"slow": {"processes": 0}}, "processes"),
        ({"slow": {"lane": "pod"}}, "lane"),
        ({"slow": {"jobMemory": "much"}}, "jobMemory"),
        ({"slow": {"autoscaling": BACKLOG}}, "workers.slow.autoscaling.by: backlog needs lane: worker"),
        ({"slow": {"autoscaling": {"enabled": True, "minReplicas": 0}}}, "minReplicas must be at least 1 with by: cpu"),
        ({"slow": {"workerSeconds": 9}}, "workers.slow.workerSeconds needs lane: worker"),
        ({"slow": {"autoscaling": {"enabled": True, "minReplicas": 11}}}, "minReplicas, 11, is above maxReplicas, 10"),
    ],
)
def test_unknown_and_impossible_values_are_refused(helm: Helm, workers: Object, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        render(helm, workers)
