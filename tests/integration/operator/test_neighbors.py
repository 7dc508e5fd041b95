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
from tests.integration.operator.conftest import (
    GROUP,
    VERSION,
    Cluster,
    Object,
    OperatorProcess,
    limited_kubeconfig,
    new_namespace,
)
from tests.waiting import eventually

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.limit_scopes import SCOPE_LIMIT
from spoke_jobs.contract.start_rate import MOST_STARTS

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


LONG_SCOPE = "x" * (SCOPE_LIMIT - len("queue:"))
HOSTILE_LIMITS: list[Object] = [
    {"scope": f"queue:{LONG_SCOPE}", "maxRunning": 1_000_000},
    {
        "scope": "key:\u202e\u0007\u200b",
        "maxRunning": 0,
        "paused": {"reason": "\u202e" * 9, "by": "\u0007"},
    },
    {"scope": "each-organization", "rate": "10000/s", "burst": MOST_STARTS},
    {"scope": "each-queue", "rate": "1/7d"},
    {"scope": "type:other.*", "rate": "1000000/7d", "burst": MOST_STARTS},
    {"scope": "lane:of-a-later-release", "maxRunning": 0},
    {"scope": "all", "maxPriority": -1_000, "weight": 1, "maxUnfinished": 1_000_000, "maxTimeoutSeconds": 1},
]
"""None of them holds back a job without a queue, a key and an organization."""
LONG_TEXT = "cpu=1," * 20_000


def hostile_templates(image: str) -> dict[str, Object]:
    """By name: PodTemplates that the API server takes, and whose pods fail, wait, are refused or are none."""
    job: Object = {"name": "job", "image": image, "env": [{"name": "STANDIN", "value": "0"}]}
    spec: Object = {"containers": [job], "terminationGracePeriodSeconds": 5}
    missing = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}
    large = [{"name": f"V{number}", "value": "x" * 100_000} for number in range(3)]
    return {
        "no-container": {"spec": spec | {"containers": [job | {"name": "other"}]}},
        "caps": {"annotations": {"jobs.spoke.dev/max-resources": "cpu=\u202e"}, "spec": spec},
        "long-caps": {"annotations": {"jobs.spoke.dev/max-resources": LONG_TEXT}, "spec": spec},
        "long-types": {"annotations": {"jobs.spoke.dev/allowed-types": LONG_TEXT}, "spec": spec},
        "of-others": {"annotations": {"jobs.spoke.dev/allowed-types": "other"}, "spec": spec},
        "host": {"spec": spec | {"hostNetwork": True, "hostPID": True}},
        "no-account": {"spec": spec | {"serviceAccountName": "absent"}},
        "nowhere": {"spec": spec | {"nodeSelector": {"moon": "yes"}}},
        "gated": {"spec": spec | {"schedulingGates": [{"name": "example.com/never"}]}},
        "no-image": {"spec": spec | {"containers": [job | {"image": "registry.invalid/x:1"}]}},
        "no-secret": {"spec": spec | {"containers": [job | {"env": [missing]}]}},
        "large": {"spec": spec | {"containers": [job | {"env": large}]}},
    }


@pytest.mark.parametrize("number", [pytest.param(500, marks=LARGE)])
def test_hostile_limits_and_templates_of_one_namespace_delay_no_other(
    apart: Cluster, quiet: Cluster, shared: OperatorProcess, number: int
) -> None:
    """They change all the time, while SpokeJobs of each template come."""
    templates = hostile_templates(apart.image)

    def template(name: str, version: int) -> Object:
        parts = templates[name]
        annotations = {"example.com/version": str(version)} | parts.get("annotations", {})
        metadata = {"name": name, "labels": {"jobs.spoke.dev/template": "true"}, "annotations": annotations}
        return {"metadata": metadata, "template": {"spec": parts["spec"]}}

    def limit(number: int) -> Object:
        spec = HOSTILE_LIMITS[number % len(HOSTILE_LIMITS)]
        version = {"apiVersion": f"{GROUP}/{VERSION}", "kind": Kind.SPOKELIMIT.kind}
        return version | {"metadata": {"name": f"hostile-{number}"}, "spec": spec}

    def put_limit(number: int) -> None:
        apart.custom.create_namespaced_custom_object(
            GROUP, VERSION, apart.namespace, Kind.SPOKELIMIT.plural, limit(number)
        )

    for name in templates:
        apart.core.create_namespaced_pod_template(apart.namespace, template(name, 0))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put_limit, range(number)))
    shared.start(SPOKE_OPERATOR_LEASE=f"{apart.namespace}/operator")
    over = threading.Event()

    def change() -> None:
        for version in count(1):
            if over.wait(0.2):
                return
            name = list(templates)[version % len(templates)]
            apart.core.replace_namespaced_pod_template(name, apart.namespace, template(name, version))
            changed = f"hostile-{version % number}"
            apart.custom.delete_namespaced_custom_object(
                GROUP, VERSION, apart.namespace, Kind.SPOKELIMIT.plural, changed
            )
            put_limit(version % number)

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            of = {apart.submit(name, jobType="standin"): name for _ in range(5) for name in templates}
            ends = time.monotonic() + 60
            times = measure(quiet, lambda: time.monotonic() > ends or not shared.running)
        finally:
            over.set()
        changing.result()
    assert shared.running, "it still leads"
    assert shared.get("/healthz")
    assert shared.metric("spoke_operator_undiagnosable_total") == 0
    assert [line for line in shared.logged() if line["level"] == "plain"] == [], "no traceback"
    assert statistics.median(times) < WITHIN_SECONDS

    def without_a_word() -> set[str]:
        said = {item["metadata"]["name"]: item.get("status", {}) for item in apart.spokejobs()}
        return {of[name] for name, status in said.items() if not (status.get("cause") or status.get("outcome"))}

    eventually(
        lambda: not without_a_word(), "each SpokeJob says what it waits for or how it ended", state=without_a_word
    )
