"""What the page on outages promises (docs/operating.md), for each of its times: in compressed time, against a model.

Each dependency goes away at the worst moment for the operator, and comes back. The job then succeeds, and none of its
own budgets is charged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.unit.operator.simulation import Simulation, start
from tests.unit.operator.test_room import causes, crowd, is_done, passes
from tests.unit.operator.world import Kind, World, ended

from spoke_jobs.contract.retry import OWN_BACKOFF
from spoke_jobs.contract.termination import ExitCode, TerminationMessage

TIMES = pytest.mark.parametrize("seconds", [10, 60, 600, 7200])
START_TIMEOUT = 600
WEBHOOK = (500, 'Internal error occurred: failed calling webhook "jobs.example.org": connection refused')
REGISTRY = (
    'Back-off pulling image "reg.example:5000/app:1": ErrImagePull: failed to pull and unpack image: failed to do '
    "request: dial tcp 10.0.0.9:5000: connect: connection refused"
)
NO_OTHER_MATCHES = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector. "
    "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)
NO_OTHER_FITS = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. "
    "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)
UNREACHABLE = TerminationMessage(cause="DatabaseUnreachable").encode().decode()
LEASE = 30
"""Seconds after which a job that runs stops without its database."""
NODE_GONE_AFTER = 80
"""Seconds after which Kubernetes deletes the pods of a node that does not answer."""


def until(s: Simulation, seconds: float, step: Callable[[], None]) -> None:
    """Repeat a step that lets time pass."""
    end = s.world.now + timedelta(seconds=seconds)
    while s.world.now < end:
        step()


def it_succeeds_uncharged(s: Simulation) -> None:
    """Soon after the return of what was away."""
    back = s.world.now
    for _ in range(200):
        s.pass_time(3)
        s.cluster(ExitCode.DONE)
        if s.world.status["outcome"] == "Succeeded":
            break
        assert s.world.status["outcome"] != "Failed", s.world.status["cause"]
    assert s.world.status["outcome"] == "Succeeded"
    assert s.world.now - back < timedelta(seconds=400)
    assert not s.world.status.get("charged")
    assert set(s.world.status.get("notCharged", {})) <= {kind.value for kind in OWN_BACKOFF}


@TIMES
@pytest.mark.parametrize("patience", [0, START_TIMEOUT])
def test_database(seconds: float, patience: float) -> None:
    """Its pods wait for it within their start timeout. Even if each one gave up at once, the bound would suffice."""
    s = start(startTimeoutSeconds=START_TIMEOUT)

    def attempt() -> None:
        s.cluster()
        s.pass_time(max(patience, 1))
        s.cluster(ExitCode.FAILED, message=UNREACHABLE)

    until(s, seconds, attempt)
    it_succeeds_uncharged(s)


@TIMES
def test_api_server(seconds: float) -> None:
    """A pod was about to start. Nobody hears of it, and the leader loses its Lease."""
    s = start(startTimeoutSeconds=START_TIMEOUT, timeoutSeconds=5)
    s.world.job_controller()
    s.settle()
    s.world.now += timedelta(seconds=seconds)
    s.restart()
    s.settle()
    it_succeeds_uncharged(s)
    assert s.world.status["attempt"] == 1


@TIMES
def test_operator(seconds: float) -> None:
    """Its pod runs all the time, and no operator sees it."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    s.world.job_controller()
    s.world.kubelet()
    s.world.now += timedelta(seconds=seconds)
    s.restart()
    s.settle()
    assert s.world.status["outcome"] == "Running"
    it_succeeds_uncharged(s)
    assert s.world.status["attempt"] == 1


def pods_are_deleted(s: Simulation) -> None:
    """Kubernetes gives a node up that does not answer. Another node answers from then on."""
    pod = s.world.pods[0]["metadata"]["name"]
    conditions = [
        {"type": "ContainersReady", "status": "True"},
        {"type": "Ready", "status": "False"},
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
    ]
    s.world.change(Kind.POD, pod, {"conditions": conditions}, under="status")
    s.world.delete(Kind.POD, pod, graceful=True)
    s.pass_time(60)
    s.world.garbage_collector()
    s.settle()


@TIMES
def test_node(seconds: float) -> None:
    """It is cut off from the control plane and the database. Its pod runs on while its lease is valid."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    s.cluster()
    s.world.silent_nodes = True
    s.pass_time(min(seconds, NODE_GONE_AFTER))
    cause = "NodeLost" if seconds > NODE_GONE_AFTER else "DatabaseUnreachable" if seconds > LEASE else ""
    if cause == "NodeLost":
        pods_are_deleted(s)
    s.world.silent_nodes = False
    if cause == "DatabaseUnreachable":
        s.cluster(ExitCode.FAILED, message=UNREACHABLE)
    it_succeeds_uncharged(s)
    causes = [item.get("cause", "") for item in s.world.status["attempts"]]
    assert causes == ([cause, ""] if cause else [""])


@TIMES
def test_rebooted_node(seconds: float) -> None:
    """When it is back, its kubelet does not know how the containers ended."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    s.cluster()
    s.world.silent_nodes = True
    s.pass_time(min(seconds, NODE_GONE_AFTER))
    if seconds > NODE_GONE_AFTER:
        pods_are_deleted(s)
    s.world.silent_nodes = False
    s.world.kubelet(255, reason="Unknown")
    s.settle()
    it_succeeds_uncharged(s)
    assert [item.get("cause", "") for item in s.world.status["attempts"]] == ["NodeLost", ""]


def loses_its_only_node(s: Simulation, message: str) -> None:
    """The next attempt's pod fits no other node, as the scheduler says."""
    s.cluster()
    s.world.silent_nodes = True
    s.pass_time(NODE_GONE_AFTER)
    s.world.room = 0
    pods_are_deleted(s)
    s.world.silent_nodes = False
    for _ in range(3):
        s.pass_time(20)
        s.world.job_controller()
        for pod in s.world.live_pods():
            never = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            s.world.change(Kind.POD, pod["metadata"]["name"], {"conditions": [never]}, under="status")
        s.settle()


@TIMES
@pytest.mark.parametrize(("message", "cause"), [(NO_OTHER_MATCHES, "NoNodeMatches"), (NO_OTHER_FITS, "Unschedulable")])
def test_node_that_alone_fits(seconds: float, message: str, cause: str) -> None:
    """Because of a node selector, a zonal volume or a GPU. The job has run there, so it waits for the node's return."""
    s = start(startTimeoutSeconds=60)
    loses_its_only_node(s, message)
    until(s, seconds, lambda: s.pass_time(30))
    s.restart()
    s.settle()
    assert s.world.status["cause"] == cause
    s.world.room = None
    it_succeeds_uncharged(s)
    assert [item.get("cause", "") for item in s.world.status["attempts"]] == ["NodeLost", ""]


@pytest.mark.parametrize("way", ["a day", "another PodTemplate"])
def test_a_node_that_alone_fits_is_not_awaited_for_ever(way: str) -> None:
    s = start(startTimeoutSeconds=60)
    s.cluster()
    if way == "another PodTemplate":  # the next attempt's pod may fit no node at all
        s.world.put_template(image="app:2")
        s.settle()
    loses_its_only_node(s, NO_OTHER_MATCHES)
    if way == "a day":
        s.pass_time(23 * 3600)
        assert s.world.status["cause"] == "NoNodeMatches"
        s.pass_time(3600)
    else:
        s.pass_time(60)
    for _ in range(3):
        s.world.garbage_collector()
        s.world.kubelet()
        s.pass_time(5)
    assert s.world.status["cause"] == "StartTimeout"


def test_a_pod_that_never_had_a_node_waits_for_none() -> None:
    """Somebody evicts it while it waits. Its next pod fits no node, as the first one did."""
    world = World(startTimeoutSeconds=60, retry={"backoffSeconds": 1, "jitter": 0})
    world.room = 0
    s = Simulation(world)
    s.settle()

    def turn() -> None:
        world.job_controller()
        for pod in world.live_pods():
            never = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_OTHER_MATCHES}
            world.change(Kind.POD, pod["metadata"]["name"], {"conditions": [never]}, under="status")
        s.pass_time(20)

    turn()
    (pod,) = (item["metadata"]["name"] for item in world.pods)
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    world.change(Kind.POD, pod, {"phase": "Failed", "conditions": [evicted]}, under="status")
    s.settle()
    for _ in range(12):
        turn()
        world.garbage_collector()
    ends = [(item.get("cause", ""), item.get("node", "")) for item in world.status["attempts"]]
    assert ends == [("Drained", ""), ("StartTimeout", "")]


@TIMES
@pytest.mark.parametrize("drains", [1, 3, 20])
def test_drained_nodes(seconds: float, drains: int) -> None:
    """A rolling upgrade of as many nodes, one after another."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    for _ in range(drains):
        s.cluster()
        s.cluster()
        if not (pods := [pod for pod in s.world.pods if not ended(pod)]):
            s.pass_time(seconds / drains)
            continue
        pod = pods[0]["metadata"]["name"]
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        s.world.change(Kind.POD, pod, {"conditions": [condition]}, under="status")
        s.world.delete(Kind.POD, pod, graceful=True)
        s.settle()
        s.cluster()
        s.pass_time(seconds / drains)
    it_succeeds_uncharged(s)
    assert {item.get("cause", "") for item in s.world.status["attempts"]} == {"Drained", ""}


@TIMES
def test_operator_and_job_drained_from_the_same_node(seconds: float) -> None:
    """The pod is gone before the next operator looks. Only its Job still says that it was disrupted."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    s.cluster()
    (pod,) = (item["metadata"]["name"] for item in s.world.pods)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    s.world.change(Kind.POD, pod, {"conditions": [condition]}, under="status")
    s.world.delete(Kind.POD, pod, graceful=True)
    s.world.kubelet()
    s.world.job_controller()
    s.world.kubelet()
    assert s.world.pods == []
    s.world.now += timedelta(seconds=seconds)
    s.restart()
    s.settle()
    it_succeeds_uncharged(s)
    assert [item.get("cause", "") for item in s.world.status["attempts"]] == ["Drained", ""]


@TIMES
def test_zone(seconds: float) -> None:
    """Half of the nodes are cut off. If their jobs are lost, the others have no room for them until they are back."""
    world = crowd(10, room=6, startTimeoutSeconds=START_TIMEOUT)
    s = Simulation(world, max_pending=6)
    s.settle()
    s.cluster()
    running = [pod["metadata"]["name"] for pod in world.pods if pod["status"]["phase"] == "Running"]
    assert len(running) == 6
    if seconds > NODE_GONE_AFTER:
        world.room = 3
        for pod in running[:3]:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
            world.change(Kind.POD, pod, {"phase": "Failed", "conditions": [condition]}, under="status")
            s.settle()
            world.delete(Kind.POD, pod)
        world.job_controller()
    until(s, seconds, lambda: passes(s, max(10, seconds / 20)))
    if seconds > NODE_GONE_AFTER:
        assert "ClusterFull" in causes(world).values()
    elif seconds > LEASE:
        for pod in running[:3]:
            world._end_pod(world.objects[Kind.POD][pod], ExitCode.FAILED, "Error", UNREACHABLE)
        s.settle()
    world.room = 6
    for _ in range(20):
        passes(s, 10)
        s.cluster()
        s.cluster(0)
    assert all(map(is_done, world.spokejobs())), causes(world)
    statuses = [item["status"] for item in world.spokejobs()]
    assert not any(status.get("charged") for status in statuses)
    ends = [attempt.get("cause", "") for status in statuses for attempt in status["attempts"]]
    lost = "NodeLost" if seconds > NODE_GONE_AFTER else "DatabaseUnreachable" if seconds > LEASE else ""
    assert Counter(ends) == ({"": 10, lost: 3} if lost else {"": 10})


@TIMES
def test_registry(seconds: float) -> None:
    """The image is not on the node, and the registry does not answer."""
    s = start(startTimeoutSeconds=START_TIMEOUT)
    s.world.job_controller()
    s.settle()
    s.world.scheduler()
    s.settle()
    s.world.container_waits("ImagePullBackOff", REGISTRY)
    s.settle()
    until(s, seconds, lambda: s.pass_time(max(10, seconds / 20)))
    assert s.world.status["cause"] == "RegistryAway"
    it_succeeds_uncharged(s)
    assert s.world.status["attempt"] == 1


@TIMES
def test_webhook(seconds: float) -> None:
    s = start(suspend=True, startTimeoutSeconds=START_TIMEOUT)
    s.world.refuse_jobs = WEBHOOK
    s.world.change(Kind.SPOKEJOB, s.world.spokejob["metadata"]["name"], {"suspend": False}, under="spec")
    s.settle()
    until(s, seconds, lambda: s.pass_time(10))
    assert s.world.status["cause"] == "WebhookAway"
    s.world.refuse_jobs = None
    it_succeeds_uncharged(s)
    assert s.world.status["attempt"] == 1


@TIMES
@pytest.mark.parametrize("kind", ["quota", "job_quota"])
def test_quota(seconds: float, kind: str) -> None:
    """Somebody sets it to zero, and back. Kubernetes keeps no Events of pods that it refused."""
    s = Simulation(World(suspend=True, startTimeoutSeconds=START_TIMEOUT), max_pending=20)
    s.world.keeps_events = False
    setattr(s.world, kind, 0)
    s.settle()
    s.world.change(Kind.SPOKEJOB, s.world.spokejob["metadata"]["name"], {"suspend": False}, under="spec")
    s.cluster()
    until(s, seconds, lambda: s.pass_time(10))
    s.restart()
    s.settle()
    assert s.world.status["cause"] == "QuotaExceeded"
    setattr(s.world, kind, None)
    it_succeeds_uncharged(s)
    assert s.world.status["attempt"] == 1


@TIMES
def test_sync(seconds: float) -> None:
    """The job's end waits for its copy in the ledger, or for the ledger's on the SpokeJob."""
    s = start()
    s.cluster()
    s.cluster(ExitCode.DONE)
    until(s, seconds, lambda: s.pass_time(60))
    assert s.world.objects[Kind.SPOKEJOB], "it stays until its end is known to be in the ledger"
    s.world.set_ledger("Succeeded")
    s.settle()
    it_succeeds_uncharged(s)
