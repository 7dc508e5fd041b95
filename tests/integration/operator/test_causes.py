"""Every cause that an operator can name, on a real cluster: each job here comes to grief in a way of its own.

All are submitted at once, each is hurt in a thread of its own, and the tests then look at what became of them. What
counts is told by an observer beside the operator (:mod:`.sightings`): when the cause could first be known from a Pod,
Job or Event, and when the SpokeJob said so. ``SPOKE_TEST_RECORD`` names a folder for what was seen (see
:mod:`.recording`).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operator.conftest import (
    CLUSTER,
    GROUP,
    PLURAL,
    VERSION,
    Cluster,
    Object,
    OperatorProcess,
    limited_kubeconfig,
    new_namespace,
    run_or_fail,
    wait_for,
)
from tests.integration.operator.recording import record
from tests.integration.operator.sightings import EVENTS, JOBS, PODS, SPOKEJOBS, Sighting, Sightings, seconds_of

from spoke_jobs.contract.causes import CAUSES

NODE, NODE_TO_STOP = f"{CLUSTER}-worker", f"{CLUSTER}-worker2"
PROMPT_SECONDS = 15.0
"""Seconds within which a cause is named, once it can be known."""
REPAIR_AFTER_SECONDS = 30.0
"""Seconds after which what keeps a job from starting is mended."""
START_TIMEOUT_SECONDS = 20
"""Of those that never start; with all at once, a pod takes a while to come to what it lacks."""
NEVER_AGAIN = {"budget": dict.fromkeys(("error", "oom", "infrastructure", "image", "timeout"), 1)}
CPU_QUOTA = "500m"

pytestmark = pytest.mark.timeout(420)


class Stage:
    """A namespace with an operator, an observer, and what the scenes do there."""

    def __init__(self, cluster: Cluster, seen: Sightings, bare_image: str) -> None:
        self.cluster = cluster
        self.seen = seen
        self.bare_image = bare_image
        self.late_image = f"registry.invalid/late/{cluster.namespace}:1"
        self.room = f"spoke.test/{cluster.namespace}"
        self.moments: dict[str, float] = {}
        """When a scene did something that no object tells of."""

    def pod(self, name: str, attempt: int = 1) -> Sighting:
        """The attempt's pod, when it began to run."""

        def runs(item: Sighting) -> bool:
            labels = item.body["metadata"].get("labels", {})
            return item.kind == PODS and labels["jobs.spoke.dev/attempt"] == str(attempt) and "running" in state(item)

        return self.seen.until(name, f"a running pod of attempt {attempt}", runs)

    def running(self, name: str) -> Sighting:
        """The first attempt's pod, once the SpokeJob says that it runs."""
        self.seen.until(name, "Running", lambda item: item.kind == SPOKEJOBS and outcome(item) == "Running")
        return self.pod(name)

    def named(self, name: str, cause: str, seconds: float = 60) -> Sighting:
        """The SpokeJob, when it first named what it waits for."""
        return self.seen.until(
            name,
            f"waiting for {cause}",
            lambda item: item.kind == SPOKEJOBS and item.status.get("cause") == cause,
            seconds,
        )

    def final(self, name: str, seconds: float = 150) -> Sighting:
        """The SpokeJob at its end."""
        return self.seen.until(
            name, "its end", lambda item: item.kind == SPOKEJOBS and outcome(item) in ("Succeeded", "Failed"), seconds
        )

    def patch(self, name: str, spec: Mapping[str, Any]) -> None:
        """Change the SpokeJob's spec."""
        self.cluster.custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.cluster.namespace, PLURAL, name, {"spec": spec}
        )

    def on_node(self, *command: str, node: str = NODE) -> str:
        """What a command prints on a node."""
        docker = ["docker", "exec", node, *command]
        done = subprocess.run(docker, env=self.cluster.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(docker)}: {done.stderr}"
        return done.stdout.strip()


Act = Callable[[Stage, str], None]
Moment = Callable[[Stage, str], float]


@dataclass(frozen=True)
class Scene:
    """A job that comes to grief."""

    cause: str
    knowable: Moment
    """When its end could first be known."""
    steps: str = "wait"
    """What the stand-in does, attempt by attempt."""
    image: str = ""
    pod: Object = field(default_factory=dict)
    container: Object = field(default_factory=dict)
    labels: Object | None = None
    """The template's own; None for the one that it needs."""
    template: bool = True
    spec: Object = field(default_factory=dict)
    act: Act | None = None
    says: tuple[str, ...] = ()
    """What the last message says besides the advice."""
    exit_code: int | None = None
    within: float = PROMPT_SECONDS


@dataclass(frozen=True)
class Ailment:
    """Something that keeps a job from starting, and can be mended."""

    cause: str
    visible: Moment
    """When it could first be known."""
    mend: Act
    steps: str = "0"
    image: str = ""
    pod: Object = field(default_factory=dict)
    container: Object = field(default_factory=dict)
    labels: Object | None = None
    template: bool = True
    says: tuple[str, ...] = ()
    attempts: int = 1
    """How many it takes at most: one more where its pod's own description had to be mended."""


def outcome(item: Sighting) -> str:
    """A SpokeJob's outcome."""
    word: str = item.status.get("outcome", "")
    return word


def state(item: Sighting) -> Object:
    """The state of a pod's container."""
    containers = item.status.get("containerStatuses") or [{}]
    found: Object = next((each.get("state", {}) for each in containers if each.get("name") == "job"), {})
    return found


def condition(item: Sighting, kind: str) -> Object:
    found: Object = next(each for each in item.status["conditions"] if each["type"] == kind)
    return found


# When a cause could first be known


def container_ended(stage: Stage, name: str) -> float:
    return stage.seen.until(
        name, "the container's end", lambda item: item.kind == PODS and "terminated" in state(item)
    ).at


def pod_gone(stage: Stage, name: str) -> float:
    def gone(item: Sighting) -> bool:
        return item.kind == PODS and (item.gone or "deletionTimestamp" in item.body["metadata"])

    return stage.seen.until(name, "the pod's deletion", gone).at


def job_gone(stage: Stage, name: str) -> float:
    def gone(item: Sighting) -> bool:
        return item.kind == JOBS and (item.gone or "deletionTimestamp" in item.body["metadata"])

    return stage.seen.until(name, "the Job's deletion", gone).at


def ran_too_long(stage: Stage, name: str) -> float:
    started: str = state(stage.pod(name))["running"]["startedAt"]
    return seconds_of(started) + 2


def started_too_late(stage: Stage, name: str) -> float:
    created = stage.seen.until(name, "its Job", lambda item: item.kind == JOBS)
    return seconds_of(created.body["metadata"]["creationTimestamp"]) + START_TIMEOUT_SECONDS


def blocked_too_long(stage: Stage, name: str) -> float:
    created = stage.seen.until(name, "it", lambda item: item.kind == SPOKEJOBS)
    return seconds_of(created.body["metadata"]["creationTimestamp"]) + START_TIMEOUT_SECONDS


def submitted(stage: Stage, name: str) -> float:
    return stage.seen.until(name, "it", lambda item: item.kind == SPOKEJOBS).at


def of_moment(stage: Stage, name: str) -> float:
    return wait_for(f"{name} is acted upon", lambda: stage.moments.get(name), 60)


def container_waits(*reasons: str) -> Moment:
    def visible(stage: Stage, name: str) -> float:
        def waits(item: Sighting) -> bool:
            return item.kind == PODS and state(item).get("waiting", {}).get("reason") in reasons

        return stage.seen.until(name, f"the container waits: {reasons}", waits).at

    return visible


def event(reason: str) -> Moment:
    def visible(stage: Stage, name: str) -> float:
        return stage.seen.until(
            name, f"the Event {reason}", lambda item: item.kind == EVENTS and item.body["reason"] == reason
        ).at

    return visible


def unscheduled(stage: Stage, name: str) -> float:
    def waits(item: Sighting) -> bool:
        conditions = item.status.get("conditions", ())
        return item.kind == PODS and any(each.get("reason") == "Unschedulable" for each in conditions)

    return stage.seen.until(name, "the scheduler's word", waits).at


# What hurts them


def kill(stage: Stage, name: str) -> None:
    """SIGKILL from outside: from within its container the first process can't be killed."""
    pod = stage.pod(name)
    container = pod.status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    pid = stage.on_node("crictl", "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
    stage.on_node("kill", "-KILL", pid)


def delete_pod(grace: int) -> Act:
    def act(stage: Stage, name: str) -> None:
        pod = stage.running(name).name
        stage.cluster.core.delete_namespaced_pod(pod, stage.cluster.namespace, grace_period_seconds=grace)

    return act


def evict(stage: Stage, name: str) -> None:
    pod = stage.running(name).name
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    stage.cluster.core.create_namespaced_pod_eviction(pod, stage.cluster.namespace, body)


def delete_job(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.cluster.batch.delete_namespaced_job(f"{name}-1", stage.cluster.namespace, propagation_policy="Background")


def cancel(stage: Stage, name: str) -> None:
    stage.running(name)
    stage.patch(name, {"cancel": True})
    stage.moments[name] = time.time()


def stop_node(stage: Stage, name: str) -> None:
    """The node is back when this ends: other tests may need it."""
    pod = stage.running(name)
    assert pod.body["spec"]["nodeName"] == NODE_TO_STOP
    try:
        run_or_fail(["docker", "stop", "--time", "1", NODE_TO_STOP], stage.cluster.env)
        stage.moments[name] = time.time()
        stage.final(name)
    finally:
        run_or_fail(["docker", "start", NODE_TO_STOP], stage.cluster.env)
        stage.cluster.kubectl("wait", "--for=condition=Ready", f"node/{NODE_TO_STOP}", "--timeout=90s")


# What mends them


def make_secret(secret: str) -> Act:
    def mend(stage: Stage, _name: str) -> None:
        body = {"metadata": {"name": secret}, "stringData": {"key": "value"}}
        stage.cluster.core.create_namespaced_secret(stage.cluster.namespace, body)

    return mend


def make_config_map(stage: Stage, _name: str) -> None:
    body = {"metadata": {"name": "late-config"}, "data": {"key": "value"}}
    stage.cluster.core.create_namespaced_config_map(stage.cluster.namespace, body)


def make_service_account(stage: Stage, _name: str) -> None:
    stage.cluster.core.create_namespaced_service_account(
        stage.cluster.namespace, {"metadata": {"name": "late-account"}}
    )


def bring_image(stage: Stage, _name: str) -> None:
    """As a registry would that has it by now; the kubelet finds it on the node."""
    stage.on_node(
        *("ctr", "--namespace", "k8s.io", "images", "tag"),
        *(f"docker.io/library/{stage.cluster.image}", stage.late_image),
    )


def raise_quota(stage: Stage, _name: str) -> None:
    change = {"spec": {"hard": {"requests.cpu": "2"}}}
    stage.cluster.core.patch_namespaced_resource_quota("cpu", stage.cluster.namespace, change)


def make_room(stage: Stage, _name: str) -> None:
    stage.cluster.core.patch_node(NODE, {"metadata": {"labels": {stage.room: "true"}}})


def make_template(stage: Stage, _name: str) -> None:
    stage.cluster.template("late-template", "0")


def label_template(stage: Stage, _name: str) -> None:
    stage.cluster.kubectl("label", "podtemplate", "late-label", "jobs.spoke.dev/template=true")


def change_template(template: str, change: Callable[[Object, Stage], None]) -> Act:
    """As `helm upgrade` does with a release that was wrong."""

    def mend(stage: Stage, _name: str) -> None:
        body = json.loads(stage.cluster.kubectl("get", "podtemplate", template, "--output=json"))
        change(body["template"]["spec"]["containers"][0], stage)
        stage.cluster.kubectl("replace", "--filename=-", stdin=json.dumps(body))

    return mend


def secret_variable(secret: str) -> Object:
    return {"envFrom": [{"secretRef": {"name": secret}}]}


def secret_volume(secret: str) -> tuple[Object, Object]:
    """Of the pod, and of the container."""
    volume = {"name": "keys", "secret": {"secretName": secret}}
    return {"volumes": [volume]}, {"volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}


def no_longer_privileged(container: Object, _stage: Stage) -> None:
    del container["securityContext"]


def image_that_is_there(container: Object, stage: Stage) -> None:
    container["image"] = stage.cluster.image


def config_map_variable(config_map: str) -> Object:
    return {"envFrom": [{"configMapRef": {"name": config_map}}]}


PRIVILEGED = {"securityContext": {"privileged": True, "allowPrivilegeEscalation": True}}
MUCH_CPU = {"resources": {"requests": {"cpu": "600m"}}}
NEVER_STARTS = {"startTimeoutSeconds": START_TIMEOUT_SECONDS}
NO_IMAGE = "registry.invalid/nobody/nothing:1"
NO_VOLUME, NO_MOUNT = secret_volume("no-secret")
LATE_VOLUME, LATE_MOUNT = secret_volume("late-secret-volume")

SCENES = {
    "exception": Scene("JobError", container_ended, "10", exit_code=10),
    "exit-code": Scene("JobExited", container_ended, "3", exit_code=3),
    "killed": Scene("Killed", container_ended, act=kill, exit_code=137),
    "out-of-memory": Scene(
        "OutOfMemory", container_ended, "eat-200", container={"resources": {"limits": {"memory": "40Mi", "cpu": "50m"}}}
    ),
    "no-image": Scene("ImageUnavailable", started_too_late, image=NO_IMAGE, spec=NEVER_STARTS, says=(NO_IMAGE,)),
    "bad-image-name": Scene("ImageUnavailable", container_waits("InvalidImageName"), image="Not/An Image:1",
                            says=("Not/An Image:1",)),
    "no-secret": Scene("ContainerConfigError", started_too_late, container=secret_variable("no-secret"),
                       spec=NEVER_STARTS, says=('secret "no-secret" not found',)),
    "no-secret-volume": Scene("ContainerConfigError", started_too_late, pod=NO_VOLUME, container=NO_MOUNT,
                              spec=NEVER_STARTS, says=('secret "no-secret" not found',)),
    "no-config-map": Scene("ContainerConfigError", started_too_late, container=config_map_variable("no-config"),
                           spec=NEVER_STARTS, says=('configmap "no-config" not found',)),
    "no-service-account": Scene("PodRejected", started_too_late, pod={"serviceAccountName": "no-account"},
                                spec=NEVER_STARTS, says=('serviceaccount "no-account" not found',)),
    "over-quota": Scene("PodRejected", started_too_late, container=MUCH_CPU, spec=NEVER_STARTS,
                        says=("exceeded quota: cpu", "requested: requests.cpu=600m")),
    "not-admitted": Scene("PodRejected", started_too_late, container=PRIVILEGED, spec=NEVER_STARTS,
                          says=('violates PodSecurity "restricted:latest"',)),
    "no-room": Scene("StartTimeout", started_too_late, pod={"nodeSelector": {"spoke.test/no": "where"}},
                     spec=NEVER_STARTS, says=("0/3 nodes are available",)),
    "no-template": Scene("TemplateMissing", blocked_too_long, template=False, spec=NEVER_STARTS,
                         says=("no PodTemplate 'no-template'",)),
    "no-label": Scene("TemplateNotAllowed", blocked_too_long, labels={}, spec=NEVER_STARTS, says=("'no-label'",)),
    "no-container": Scene("TemplateInvalid", blocked_too_long, container={"name": "web"}, spec=NEVER_STARTS,
                          says=("no container named 'job'",)),
    "refused-by-the-api-server": Scene("TemplateInvalid", blocked_too_long, spec=NEVER_STARTS | {"resources": {
                                       "requests": {"cpu": "20m"}, "limits": {"cpu": "10m"}}}, says=("cpu limit",)),
    "no-entrypoint": Scene("ContainerCannotRun", container_ended, image="bare", pod={"securityContext": {
                           "runAsUser": 65532}}, says=("spoke-jobs",)),
    "ran-too-long": Scene("Timeout", ran_too_long, spec={"timeoutSeconds": 2}),
    "pod-deleted": Scene("PodDeleted", pod_gone, act=delete_pod(5)),
    "pod-deleted-by-force": Scene("PodDeleted", pod_gone, act=delete_pod(0)),
    "evicted": Scene("Evicted", pod_gone, act=evict),
    "job-deleted": Scene("JobDeleted", job_gone, act=delete_job),
    "cancelled": Scene("Cancelled", of_moment, act=cancel),
    "node-stopped": Scene(
        "NodeLost", of_moment, act=stop_node, within=120,
        pod={"nodeSelector": {"kubernetes.io/hostname": NODE_TO_STOP},
             "tolerations": [{"key": "spoke.test/stops", "operator": "Exists"}]},
    ),
}  # fmt: skip

AILMENTS = {
    "late-image": Ailment("ImageUnavailable", container_waits("ErrImagePull", "ImagePullBackOff"), bring_image,
                          image="late"),
    "late-secret": Ailment("ContainerConfigError", container_waits("CreateContainerConfigError"),
                           make_secret("late-secret"), container=secret_variable("late-secret")),
    "late-secret-volume": Ailment("ContainerConfigError", event("FailedMount"), make_secret("late-secret-volume"),
                                  pod=LATE_VOLUME, container=LATE_MOUNT),
    "late-config": Ailment("ContainerConfigError", container_waits("CreateContainerConfigError"), make_config_map,
                           container=config_map_variable("late-config")),
    "late-account": Ailment("PodRejected", event("FailedCreate"), make_service_account,
                            pod={"serviceAccountName": "late-account"}),
    "late-quota": Ailment("PodRejected", event("FailedCreate"), raise_quota, container=MUCH_CPU),
    # The kubelet may hear of its node's label after the pod, and then refuses that.
    "late-room": Ailment("Unschedulable", unscheduled, make_room, pod={"nodeSelector": {"room": "true"}}, attempts=2),
    "late-template": Ailment("TemplateMissing", submitted, make_template, template=False),
    "late-label": Ailment("TemplateNotAllowed", submitted, label_template, labels={}),
    "mended-template": Ailment("PodRejected", event("FailedCreate"),
                               change_template("mended-template", no_longer_privileged), container=PRIVILEGED,
                               attempts=2),
    "mended-image": Ailment("ImageUnavailable", container_waits("ErrImagePull", "ImagePullBackOff"),
                            change_template("mended-image", image_that_is_there), image=NO_IMAGE, attempts=2),
}  # fmt: skip


@pytest.fixture(scope="module")
def bare_image(cluster_env: dict[str, str]) -> str:
    """An image without `spoke-jobs`, on the nodes."""
    name = cluster_env["SPOKE_PYTHON_BASE_IMAGE"]
    run_or_fail(["tests/cluster/load", CLUSTER, name], cluster_env)
    return name


@pytest.fixture(scope="module")
def stage(
    cluster: Cluster, cluster_env: dict[str, str], bare_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A namespace of its own, since its quota would be in the way of other tests."""
    assert cluster.namespace  # it has brought the CRD and the image
    folder = tmp_path_factory.mktemp("causes")
    with new_namespace(cluster_env, cluster.image) as own:
        seen = Sightings(own)
        seen.start()
        quota = {"hard": {"requests.cpu": CPU_QUOTA}, "scopes": ["NotBestEffort"]}
        own.core.create_namespaced_resource_quota(own.namespace, {"metadata": {"name": "cpu"}, "spec": quota})
        operator = OperatorProcess(limited_kubeconfig(own, folder), own.namespace, folder / "operator.log")
        operator.start()
        stage = Stage(own, seen, bare_image)
        try:
            yield stage
        finally:
            seen.stop()
            own.core.patch_node(NODE, {"metadata": {"labels": {stage.room: None}}})
            assert operator.stop() == 0
            print((folder / "operator.log").read_text())


@dataclass
class Played:
    """A scene under way."""

    name: str
    """Its SpokeJob's."""
    done: Future[None] | None = None


@pytest.fixture(scope="module")
def played(stage: Stage) -> Iterator[dict[str, Played]]:
    """All scenes and ailments, submitted together; each has a thread for what is done to it."""
    names: dict[str, Played] = {}
    with ThreadPoolExecutor(len(SCENES) + len(AILMENTS)) as pool:
        for title, scene in sorted(SCENES.items(), key=lambda item: item[0] != "node-stopped"):
            if scene.template:
                put_template(stage, title, scene)
            retry: Object = {"retry": NEVER_AGAIN | {"backoffSeconds": 0.5}}
            names[title] = Played(name := stage.cluster.submit(title, **retry | scene.spec))
            if scene.act:
                names[title].done = pool.submit(scene.act, stage, name)
        for title, ailment in AILMENTS.items():
            if ailment.template:
                put_template(stage, title, ailment)
            names[title] = Played(name := stage.cluster.submit(title, startTimeoutSeconds=600))
            names[title].done = pool.submit(mend_later, stage, name, ailment)
        yield names
    if folder := os.environ.get("SPOKE_TEST_RECORD"):
        for title in SCENES | AILMENTS:
            cause = (SCENES.get(title) or AILMENTS[title]).cause
            if cause == "Cancelled":  # no Pod, Job or Event says so
                continue
            record(Path(folder) / f"{title}.json", stage.seen.of(names[title].name), cause)


def put_template(stage: Stage, title: str, described: Scene | Ailment) -> None:
    image = {"bare": stage.bare_image, "late": stage.late_image}.get(described.image, described.image)
    pod = described.pod
    if pod.get("nodeSelector") == {"room": "true"}:
        pod = {"nodeSelector": {stage.room: "true"}}
    stage.cluster.template(
        title, described.steps, image=image or None, pod=pod, container=described.container, labels=described.labels
    )


def mend_later(stage: Stage, name: str, ailment: Ailment) -> None:
    named = stage.named(name, ailment.cause)
    wait_for("the time of repair", lambda: time.time() >= named.at + REPAIR_AFTER_SECONDS)
    ailment.mend(stage, name)
    stage.moments[name] = time.time()


@pytest.mark.parametrize("title", SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(stage: Stage, played: dict[str, Played], title: str) -> None:
    scene, name = SCENES[title], played[title].name
    end = stage.final(name)
    took = end.at - scene.knowable(stage, name)
    print(f"FIGURE {title}: {scene.cause} {took:.1f} s after it could be known")
    assert (outcome(end), end.status["cause"]) == ("Failed", scene.cause)
    finished = condition(end, "Finished")
    assert (finished["status"], finished["reason"]) == ("True", scene.cause)
    for words in (*scene.says, CAUSES[scene.cause].advice):
        assert words in finished["message"]
    if scene.exit_code is not None:
        assert end.status["attempts"][0]["exitCode"] == scene.exit_code
    assert took <= scene.within
    if played[title].done:
        with_its_act(played[title])


@pytest.mark.parametrize("title", AILMENTS)
def test_what_keeps_it_from_starting_is_named_and_once_mended_it_succeeds(
    stage: Stage, played: dict[str, Played], title: str
) -> None:
    ailment, name = AILMENTS[title], played[title].name
    took = stage.named(name, ailment.cause).at - ailment.visible(stage, name)
    with_its_act(played[title])
    end = stage.final(name)
    healed = end.at - stage.moments[name]
    print(f"FIGURE {title}: {ailment.cause} named after {took:.1f} s, healed in {healed:.1f} s")
    assert outcome(end) == "Succeeded"
    assert end.status["attempt"] <= ailment.attempts
    assert took <= PROMPT_SECONDS


def with_its_act(scene: Played) -> None:
    """What its thread had to say."""
    assert scene.done
    scene.done.result(timeout=200)


def test_more_memory_after_one_that_ran_out_of_it(stage: Stage) -> None:
    stage.cluster.template("grows", "eat-60", container={"resources": {"limits": {"memory": "40Mi", "cpu": "50m"}}})
    name = stage.cluster.submit("grows", retry={"backoffSeconds": 0.5, "memoryFactor": 2.5})
    end = stage.final(name)
    assert [item["cause"] for item in end.status["attempts"]] == ["OutOfMemory", ""]
    assert end.status["charged"] == {"oom": 1}
    second = stage.pod(name, 2).body["spec"]["containers"][0]["resources"]
    assert second["limits"]["memory"] == second["requests"]["memory"] == "100Mi"


def test_kueue_s_moves(stage: Stage) -> None:
    """Made by hand, on the real Job controller: it holds a Job back, lets it start, and takes its place away."""
    template = {"jobs.spoke.dev/template": "true", "kueue.x-k8s.io/queue-name": "team-a"}
    stage.cluster.template("queued", "wait,0", labels=template)
    name = stage.cluster.submit("queued", startTimeoutSeconds=3)

    def let_start(attempt: int, starts: bool) -> None:
        change = {"spec": {"suspend": not starts}}
        stage.cluster.batch.patch_namespaced_job(f"{name}-{attempt}", stage.cluster.namespace, change)

    queued = stage.named(name, "QueuedByKueue")
    job = stage.seen.until(name, "its Job", lambda item: item.kind == JOBS)
    assert job.body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    wait_for("longer than the start timeout", lambda: time.time() > queued.at + 4)
    let_start(1, True)
    stage.running(name)
    let_start(1, False)
    preempted = stage.seen.until(
        name,
        "the next attempt in Kueue's queue",
        lambda item: (
            item.kind == SPOKEJOBS and item.status.get("attempt") == 2 and item.status["cause"] == "QueuedByKueue"
        ),
    )
    assert preempted.status["attempts"][0]["cause"] == "Preempted"
    assert preempted.status.get("charged", {}) == {}
    let_start(2, True)
    assert outcome(stage.final(name)) == "Succeeded"


def test_nothing_is_left_of_a_spokejob_that_is_deleted(stage: Stage) -> None:
    stage.cluster.template("deleted", "wait")
    name = stage.cluster.submit("deleted")
    pod = stage.running(name).name
    stage.cluster.custom.delete_namespaced_custom_object(GROUP, VERSION, stage.cluster.namespace, PLURAL, name)
    stage.seen.until(name, "its Job's end", lambda item: item.kind == JOBS and item.gone)
    stage.seen.until(name, "its pod's end", lambda item: item.kind == PODS and item.name == pod and item.gone)
    made = {item.name for item in stage.seen.of(name) if item.kind == JOBS}
    assert made == {f"{name}-1"}, "no further attempt"


def test_a_quota_of_jobs_is_named_and_once_raised_it_starts(stage: Stage) -> None:
    """Here the API server refuses the Job itself. (The last test: no other of this namespace's could start.)"""
    quota = {"hard": {"count/jobs.batch": "0"}}
    stage.cluster.core.create_namespaced_resource_quota(
        stage.cluster.namespace, {"metadata": {"name": "jobs"}, "spec": quota}
    )
    read = stage.cluster.core.read_namespaced_resource_quota
    wait_for("the quota counts", lambda: read("jobs", stage.cluster.namespace).status.hard)
    stage.cluster.template("counted", "0")
    name = stage.cluster.submit("counted")
    blocked = stage.named(name, "PodRejected")
    assert "exceeded quota: jobs" in condition(blocked, "Admitted")["message"]
    stage.cluster.core.delete_namespaced_resource_quota("jobs", stage.cluster.namespace)
    assert outcome(stage.final(name)) == "Succeeded"
