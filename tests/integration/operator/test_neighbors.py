"""What one namespace does must not delay the jobs of another one, nor end the operator."""

from __future__ import annotations

import time
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

WITHIN_SECONDS = 3.0
LARGE = pytest.mark.long, pytest.mark.timeout(900)


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


def all_wait(cluster: Cluster, cause: str, number: int) -> bool:
    """Whether so many SpokeJobs of the namespace wait for this reason."""
    causes = [item.get("status", {}).get("cause", "") for item in cluster.spokejobs()]
    return causes.count(cause) == number


@pytest.mark.alone
@pytest.mark.parametrize("number", [300, pytest.param(2000, marks=LARGE)])
def test_spokejobs_without_a_template_delay_no_other_namespace(
    apart: Cluster, cluster_env: dict[str, str], image: str, tmp_path: Path, number: int
) -> None:
    with new_namespace(cluster_env, image) as quiet:
        quiet.template("brief", "0")
        kubeconfig = limited_kubeconfig(apart, tmp_path)
        quiet.kubectl("apply", "--filename", str(Path(__file__).with_name("role.yaml")))
        account = f"--serviceaccount={apart.namespace}:operator-under-test"
        quiet.kubectl("create", "rolebinding", "shared", "--role=operator-under-test", account)
        both = f"{apart.namespace},{quiet.namespace}"
        operator = OperatorProcess(kubeconfig, both, tmp_path / "operator.log")
        times = []
        try:
            operator.start(SPOKE_OPERATOR_LEASE=f"{apart.namespace}/operator")
            with ThreadPoolExecutor(16) as pool:  # they come while the operator runs: these it handles first
                submitting = [pool.submit(apart.submit, "absent") for _ in range(number)]
                while not all_wait(apart, "TemplateMissing", number):
                    times.append(until_job(quiet))
                    time.sleep(1)
                for item in submitting:
                    item.result()
            assert operator.stop() == 0
        finally:
            if operator.running:
                operator.kill()
            print(f"seconds: {times}", (tmp_path / "operator.log").read_text()[-20_000:])
    assert max(times) < WITHIN_SECONDS
