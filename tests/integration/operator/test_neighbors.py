"""What one namespace does must not delay the jobs of another one, nor end the operator."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.operator.conftest import (
    Cluster,
    OperatorProcess,
    limited_kubeconfig,
    new_namespace,
)
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
