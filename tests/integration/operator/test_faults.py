"""The operator killed at its writes, and an API server that misbehaves; what is written is counted on the way there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from tests.integration.operator.conftest import (
    Cluster,
    Object,
    OperatorProcess,
    limited_kubeconfig,
)
from tests.integration.operator.proxy import Fault, Proxy
from tests.waiting import eventually

FAILPOINT = (str(Path(__file__).with_name("failpoint.py")),)
CREATE, DELETE, STATUS, DELETE_SPOKEJOB = "POST job", "DELETE job", "PATCH status", "DELETE spokejob"


class Scene:
    """An operator that reaches the API server through a proxy, in a namespace of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.proxy = Proxy(limited_kubeconfig(cluster, folder), folder)
        self.log = folder / "operator.log"
        self.operator = self.process()

    def process(self, *script: str) -> OperatorProcess:
        more = {"script": script} if script else {}
        return OperatorProcess(self.proxy.kubeconfig, self.cluster.namespace, self.log, **more)

    def start(self, *, retention: int = 0, **env: str) -> None:
        self.operator.start(SPOKE_OPERATOR_JOB_RETENTION_SECONDS=str(retention), **env)

    def close(self) -> None:
        if self.operator.running:
            self.operator.kill()
        self.proxy.close()
        print(self.log.read_text())

    def jobs(self) -> list[str]:
        return [job.metadata.name for job in self.cluster.batch.list_namespaced_job(self.cluster.namespace).items]

    def no_jobs_are_left(self) -> None:
        eventually(lambda: not self.jobs(), "no Jobs are left")


@pytest.fixture
def scene(apart: Cluster, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(apart, tmp_path)
    yield scene
    scene.close()


def test_killed_before_and_after_every_write_of_a_job_s_life(scene: Scene) -> None:
    """No process makes more than one write. None is remembered, and the first ones are prevented at first."""
    cluster = scene.cluster
    cluster.template("mends", "10,0")
    name = cluster.submit("mends", ttlSecondsAfterFinished=0, retry={"backoffSeconds": 0})
    operator = scene.process(*FAILPOINT)
    deaths = 0
    ends: list[list[tuple[int, str]]] = []

    def died_or_done() -> bool:
        if not operator.running:
            return True
        here = [item for item in scene.cluster.spokejobs() if item["metadata"]["name"] == name]
        status = here[0].get("status", {}) if here else {}
        if status.get("outcome") in ("Succeeded", "Failed") and not ends:
            ends.append([(item["number"], item["cause"]) for item in status["attempts"]])
            cluster.apply_as_sync(name, {"ledger": status["outcome"]})
        return not here

    while any(item["metadata"]["name"] == name for item in scene.cluster.spokejobs()):
        at_once = {"SPOKE_OPERATOR_JOB_RETENTION_SECONDS": "0", "SPOKE_OPERATOR_FAILED_JOB_RETENTION_SECONDS": "0"}
        operator.launch(**at_once, FAILPOINT="die-before" if deaths in (0, 2) else "die-after")
        eventually(died_or_done, "it is killed")
        if operator.running:
            operator.kill()
            break
        assert operator.wait() == 9
        deaths += 1
        assert deaths < 60, "it goes in circles"
    assert ends == [[(1, "JobError"), (2, "")]]
    counted = Counter(scene.proxy.writes())
    print(f"killed {deaths} times; {dict(counted)}")
    assert counted[CREATE] == 2, "one for each attempt"
    assert counted[DELETE] == 2
    assert counted[DELETE_SPOKEJOB] == 1
    assert counted[STATUS] <= 6
    assert deaths >= sum(counted.values()) - 1


def test_watches_that_fail_lose_nothing(scene: Scene) -> None:
    """First by an answer that their place is gone, then by an error that ends kopf's whole operator."""
    cluster = scene.cluster
    cluster.template("waits", "wait,wait,0")
    scene.start(SPOKE_OPERATOR_COMPARE_SECONDS="2")
    name = cluster.submit("waits")
    for number, (code, restarts) in enumerate(((410, 0), (500, 1)), 1):
        cluster.until(
            name, lambda status, number=number: (status.get("attempt"), status.get("outcome")) == (number, "Running")
        )
        pod = cluster.pod_of(name, number)
        heard = scene.operator.metric("spoke_operator_events_total")
        eventually(lambda: scene.proxy.open_watches >= 4, "the watches are open")
        scene.proxy.break_watches(code)
        cluster.core.delete_namespaced_pod(pod, cluster.namespace, grace_period_seconds=0)
        eventually(
            lambda heard=heard: scene.operator.metric("spoke_operator_events_total") > heard, "events come again"
        )
        eventually(
            lambda restarts=restarts: scene.operator.metric("spoke_operator_stream_restarts_total") >= restarts,
            "the streams' restart",
        )
        if not restarts:
            assert scene.operator.metric("spoke_operator_stream_restarts_total") == 0
    status = cluster.until_final(name)
    assert [item["cause"] for item in status["attempts"]] == ["PodDeleted", "PodDeleted", ""]
    scene.no_jobs_are_left()
    # The proxy notes a write when its answer has passed: a Job may be gone a moment before.
    eventually(lambda: scene.proxy.writes().count(DELETE) >= 3, "the Jobs' deletions")
    counted = Counter(scene.proxy.writes())
    assert (counted[CREATE], counted[DELETE]) == (3, 3)
    assert counted[STATUS] <= 13, "three each; of those that lost their pods, that none runs, and why before the stop"
    assert scene.operator.stop() == 0


def test_answers_that_are_late_lost_or_refused(scene: Scene) -> None:
    """One in five, as there are but few calls in a test."""
    random = Random(5)
    cluster = scene.cluster
    cluster.template("succeeds", "0")
    scene.start(SPOKE_OPERATOR_COMPARE_SECONDS="5", SPOKE_OPERATOR_REQUEST_TIMEOUT_SECONDS="1.5")
    faults: Counter[str] = Counter()

    def choose(method: str, _: str) -> Fault | None:
        if random.random() > 0.2:
            return None
        fault = random.choice(list(Fault))
        faults[f"{method} {fault.name}"] += 1
        return fault

    scene.proxy.choose = choose
    names = [cluster.submit("succeeds") for _ in range(8)]
    for name in names:
        status = cluster.until_final(name, 90)
        assert [(item["number"], item["cause"]) for item in status["attempts"]] == [(1, "")]
    scene.no_jobs_are_left()
    print(dict(faults))
    assert sum(count for name, count in faults.items() if not name.startswith("GET")) >= 3
    counted = Counter(scene.proxy.writes())
    assert counted[CREATE] == 8, "one for each attempt, whatever was answered"
    assert counted[STATUS] <= 24
    scene.proxy.choose = lambda _method, _path: None
    assert scene.operator.stop() == 0


STATES = ("done", "failed", "backing-off", "suspended", "no-template", "locked", "cancelled")


def in_all_states(cluster: Cluster, each: int) -> list[str]:
    """So many SpokeJobs in each state, and two that run, one of which holds the queue that others wait for."""
    for name, does in {"done": "0", "failed": "10", "backing-off": "10", "waits": "wait"}.items():
        cluster.template(name, does)
    specs: dict[str, Object] = {
        "failed": {"retry": {"budget": {"error": 1}}},
        "backing-off": {"retry": {"backoffSeconds": 3000, "backoffMaxSeconds": 3000}},
        "suspended": {"suspend": True},
        "no-template": {"startTimeoutSeconds": 3000},
        "locked": {"queue": "q", "locksQueue": True},
        "cancelled": {"cancel": True},
    }
    templates = {"suspended": "done", "no-template": "none", "locked": "done", "cancelled": "done"}
    running = [cluster.submit("waits", queue="q", locksQueue=True), cluster.submit("waits")]
    for name in running:
        cluster.until(name, lambda status: status.get("outcome") == "Running")
    wanted: dict[str, Callable[[Object], bool]] = {
        "done": lambda status: status.get("outcome") == "Succeeded",
        "failed": lambda status: status.get("cause") == "JobError" and status["outcome"] == "Failed",
        "backing-off": lambda status: "nextAttemptAt" in status,
        "suspended": lambda status: status.get("cause") == "Suspended",
        "no-template": lambda status: status.get("cause") == "TemplateMissing",
        "locked": lambda status: status.get("cause") == "QueueLocked",
        "cancelled": lambda status: status.get("cause") == "Cancelled",
    }
    made = [(state, cluster.submit(templates.get(state, state), **specs.get(state, {}))) for state in STATES * each]
    for state, name in made:
        cluster.until(name, wanted[state])
    return [*running, *(name for _, name in made)]


def settled(scene: Scene) -> None:
    """Only the Jobs of those that run are there."""
    eventually(lambda: len(scene.jobs()) == 2, "the Jobs of what has ended are gone")


def versions(scene: Scene) -> dict[str, str]:
    jobs = scene.cluster.batch.list_namespaced_job(scene.cluster.namespace).items
    found = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in scene.cluster.spokejobs()}
    return found | {job.metadata.name: job.metadata.resource_version for job in jobs}


def restart_and_look(scene: Scene, count: int) -> None:
    """A new operator looks at all of them, more than once, and finds nothing to do."""
    before, since = versions(scene), len(scene.proxy.calls)
    started_at = time.monotonic()
    scene.start(SPOKE_OPERATOR_COMPARE_SECONDS="2")
    eventually(lambda: scene.operator.metric("spoke_operator_reconciles_total") >= count, "each is looked at")
    print(f"{count} SpokeJobs looked at {time.monotonic() - started_at:.1f} s after the start")
    looked_at = scene.operator.metric("spoke_operator_reconciles_total")
    eventually(lambda: scene.operator.metric("spoke_operator_reconciles_total") >= looked_at + 10, "once more")
    assert scene.proxy.writes(since) == []
    assert versions(scene) == before
    assert [line for line in scene.operator.logged() if line["level"] not in ("info", "debug")] == []


def test_a_restart_writes_nothing_where_all_is_as_it_should_be(scene: Scene) -> None:
    scene.start()
    names = in_all_states(scene.cluster, 1)
    settled(scene)
    assert scene.operator.stop() == 0
    restart_and_look(scene, len(names))
    assert scene.operator.stop() == 0
