"""What one namespace does must not delay the jobs of another one, nor end the operator."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from tests.integration.operator.conftest import Cluster, OperatorProcess, limited_kubeconfig, new_namespace
from tests.waiting import eventually

EVERY_SECONDS = 1.0
WITHIN_SECONDS = 3.0
LARGE = pytest.mark.long, pytest.mark.timeout(900)


@pytest.fixture
def quiet(cluster_env: dict[str, str], image: str) -> Iterator[Cluster]:
    """The namespace whose jobs are measured."""
    with new_namespace(cluster_env, image) as own:
        own.template("brief", "0")
        yield own


@pytest.fixture
def shared(apart: Cluster, quiet: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator for both namespaces, to be started."""
    kubeconfig = limited_kubeconfig(apart, tmp_path)
    quiet.kubectl("apply", "--filename", str(Path(__file__).with_name("role.yaml")))
    account = f"--serviceaccount={apart.namespace}:operator-under-test"
    quiet.kubectl("create", "rolebinding", "shared", "--role=operator-under-test", account)
    process = OperatorProcess(kubeconfig, f"{apart.namespace},{quiet.namespace}", tmp_path / "operator.log")
    yield process
    if process.running:
        assert process.stop() == 0
    print((tmp_path / "operator.log").read_text()[-20_000:])


def submit_many(cluster: Cluster, template: str, number: int, **spec: object) -> None:
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda _: cluster.submit(template, **spec), range(number)):
            pass


def until_job(cluster: Cluster) -> float:
    """Submit a job; gives the seconds until its Kubernetes Job exists."""
    begun = time.monotonic()
    name = cluster.submit("brief")
    selector = f"jobs.spoke.dev/spokejob={name}"
    eventually(
        lambda: cluster.batch.list_namespaced_job(cluster.namespace, label_selector=selector).items or None,
        "the Job of the quiet namespace",
        within=90,
    )
    return time.monotonic() - begun


def measure(cluster: Cluster, is_over: Callable[[], bool]) -> list[float]:
    """How long jobs of the namespace wait for their Kubernetes Jobs, until it is over."""
    times: list[float] = []
    while not is_over():
        times.append(until_job(cluster))
        time.sleep(EVERY_SECONDS)
    print(f"{len(times)} jobs: median {statistics.median(times):.2f} s, maximum {max(times):.2f} s")
    return times


def all_wait(cluster: Cluster, cause: str, number: int) -> bool:
    """Whether so many SpokeJobs of the namespace wait for this reason."""
    causes = [item.get("status", {}).get("cause", "") for item in cluster.spokejobs()]
    return causes.count(cause) == number


@pytest.mark.alone
@pytest.mark.parametrize("number", [300, pytest.param(2000, marks=LARGE)])
def test_spokejobs_without_a_template_delay_no_other_namespace(
    apart: Cluster, quiet: Cluster, shared: OperatorProcess, number: int
) -> None:
    shared.start(SPOKE_OPERATOR_LEASE=f"{apart.namespace}/operator")
    with ThreadPoolExecutor(1) as pool:  # they come while the operator runs: these it handles first
        submitting = pool.submit(submit_many, apart, "absent", number)
        times = measure(quiet, lambda: all_wait(apart, "TemplateMissing", number))
        submitting.result()
    assert max(times) < WITHIN_SECONDS


@pytest.mark.parametrize("number", [pytest.param(400, marks=LARGE)])
def test_a_template_with_long_annotations_that_changes_delays_no_other_namespace(
    apart: Cluster, quiet: Cluster, shared: OperatorProcess, number: int
) -> None:
    long = ",".join(f"example.com/resource-{item:05}=1" for item in range(10_000))[:250_000].rpartition(",")[0]
    metadata = {"annotations": {"jobs.spoke.dev/max-resources": f"memory=1Mi,{long}"}}
    apart.template("large", "0")
    apart.core.patch_namespaced_pod_template("large", apart.namespace, {"metadata": metadata})
    shared.start(SPOKE_OPERATOR_LEASE=f"{apart.namespace}/operator")
    over = threading.Event()

    def change() -> None:
        for number in count():
            if over.wait(1):
                return
            body = {"metadata": {"annotations": {"example.com/number": str(number)}}}
            apart.core.patch_namespaced_pod_template("large", apart.namespace, body)

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            submit_many(apart, "large", number, resources={"limits": {"memory": "1Gi"}})
            ends = time.monotonic() + 60
            times = measure(quiet, lambda: time.monotonic() > ends or not shared.running)
        finally:
            over.set()
        changing.result()
    assert shared.running, "it still leads"
    assert shared.get("/healthz")
    assert max(times) < WITHIN_SECONDS


@pytest.mark.parametrize("number", [pytest.param(3000, marks=LARGE)])
def test_ten_jobs_start_within_their_turns_beside_thousands_of_higher_priority(
    apart: Cluster, quiet: Cluster, shared: OperatorProcess, number: int
) -> None:
    """Namespaces take turns: while one has ten jobs to start, the other one starts about as many."""
    few, limit = 10, 4
    apart.template("slow", "sleep-2")
    shared.start(SPOKE_OPERATOR_LEASE=f"{apart.namespace}/operator", SPOKE_OPERATOR_MAX_RUNNING=str(limit))
    submit_many(apart, "slow", number, priority=1000)
    eventually(lambda: len(started(apart)) >= 2 * limit, "the many take their turns", within=300, every=1)
    names = [quiet.submit("brief") for _ in range(few)]
    for name in names:
        assert quiet.until_final(name, within=300)["outcome"] == "Succeeded"
    # The times of objects are whole seconds, in each of which a few start.
    first = min(item["metadata"]["creationTimestamp"] for item in quiet.spokejobs())
    last = max(started(quiet))
    meanwhile = [at for at in started(apart) if first < at <= last]
    print(f"{len(meanwhile)} of {number} started from {first} to {last}, in which the {few} did")
    assert len(meanwhile) <= few + 2 * limit


def started(cluster: Cluster) -> list[str]:
    """When each job of the namespace that has a recorded attempt got its Kubernetes Job."""
    attempts = [item.get("status", {}).get("attempts", []) for item in cluster.spokejobs()]
    return [str(of_job[0]["startedAt"]) for of_job in attempts if of_job]
