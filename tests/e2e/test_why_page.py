"""What docs/why.md shows is what `spoke-jobs why` prints: each situation is made on the cluster, and compared.

Asked by somebody who has the chart's Role for readers, and no other right.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.conftest import Namespace
from tests.waiting import eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import cli
from .conftest import CLUSTER, Object, Product

PAGE = Path(__file__).parents[2] / "docs/why.md"
SECTION = re.compile(
    r"^### ([^\n]+)\n(?:(?!^### ).)*?^```console\n\$ spoke-jobs why (\d+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))
TAIL = "the output's last lines"
REGISTRY_PORT = 8080
"""In its pod."""


def shown() -> dict[str, tuple[int, str]]:
    """By heading: the job's id as the page has it, and what is printed."""
    found = {}
    for heading, number, output in SECTION.findall(PAGE.read_text()):
        found[heading] = int(number), output
    return found


@dataclass
class Stage:
    """Makes situations, and takes them away."""

    product: Product
    runner: KubernetesRunner
    reader: str
    """The kubeconfig of who asks."""
    jobs: list[JobRequest]

    def dispatch(self, payload: str = "goes on", **data: Any) -> JobRequest:
        job = self.runner.dispatch_job(JobData("report", payload, **data))
        self.jobs.append(job)
        return job

    def runs(self, job: JobRequest) -> JobRequest:
        """Once it says how far it is."""
        eventually(lambda: self.product.row(job).status == 42, f"job {job.id} runs")
        return job

    def template(self, name: str, change: Callable[[Object], None]) -> str:
        """A PodTemplate like the default one, changed."""
        found = self.product.get("podtemplate", "default")
        assert found
        found["metadata"] = {"name": name, "labels": found["metadata"]["labels"]}
        change(found["template"]["spec"])
        self.product.apply_template(found)
        return name


@pytest.fixture(scope="module")
def reader(product: Product, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A kubeconfig of somebody to whom the chart's Role is bound."""
    namespace = Namespace(product.namespace, product.cluster.env)
    kubeconfig = namespace.account("asks-why", (), tmp_path_factory.mktemp("reader"))
    account = f"--serviceaccount={product.namespace}:asks-why"
    product.kubectl("create", "rolebinding", "reads", f"--role={product.release}-reader", account)
    return kubeconfig


@pytest.fixture
def stage(product: Product, runner: KubernetesRunner, reader: str) -> Iterator[Stage]:
    made = Stage(product, runner, reader, [])
    yield made
    for job in reversed(made.jobs):  # those that wait first, so that none starts as another ends
        product.ledger.cancel(job.id)
    for job in made.jobs:
        product.ended(job)


@pytest.fixture
def operator_settings(product: Product, operator: str) -> Iterator[Callable[..., None]]:
    """Gives the operator other settings for a while."""
    cluster, where = product.cluster, ("--namespace", operator)
    changed: list[str] = []

    def change(*assignments: str) -> None:
        cluster.kubectl(*where, "set", "env", "deployment/spoke-operator", *assignments)
        cluster.kubectl(*where, "rollout", "status", "deployment/spoke-operator", f"--timeout={patient(300):.0f}s")
        changed.extend(f"{item.partition('=')[0]}-" for item in assignments)

    yield change
    if changed:
        change(*changed)


@pytest.fixture
def no_operator(product: Product, operator: str) -> Iterator[None]:
    cluster, where = product.cluster, ("--namespace", operator)
    found = cluster.get(*where, "deployment", "spoke-operator")
    assert found
    cluster.kubectl(*where, "scale", "deployment/spoke-operator", "--replicas=0")
    cluster.kubectl(*where, "wait", "--for=delete", "pod", "--all", f"--timeout={patient(300):.0f}s")
    yield
    cluster.kubectl(*where, "scale", "deployment/spoke-operator", f"--replicas={found['spec']['replicas']}")
    cluster.kubectl(*where, "rollout", "status", "deployment/spoke-operator", f"--timeout={patient(300):.0f}s")


@pytest.fixture
def empty_registry(product: Product) -> Iterator[str]:
    """An image registry that has nothing, as the nodes reach it."""
    found = product.get("podtemplate", "default")
    assert found
    pod = found["template"]["spec"]
    answer = "self.send_response(404); self.end_headers()"
    code = (
        f"import http.server as s\nclass H(s.BaseHTTPRequestHandler):\n  def do_GET(self): {answer}\n  do_HEAD = do_GET"
    )
    code += f"\ns.HTTPServer(('', {REGISTRY_PORT}), H).serve_forever()"
    container = {
        "name": "registry",
        "image": pod["containers"][0]["image"],
        "command": ["python", "-c", code],
        "securityContext": pod["containers"][0]["securityContext"],
    }
    labels = {"app": "empty-registry"}
    port = {"port": REGISTRY_PORT}
    for kind, spec in {
        "Pod": {"containers": [container], "securityContext": pod["securityContext"]},
        "Service": {"type": "NodePort", "selector": labels, "ports": [port]},
    }.items():
        metadata = {"name": "empty-registry", "labels": labels}
        body = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
        product.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    product.kubectl("wait", "--for=condition=Ready", "pod/empty-registry", f"--timeout={patient(300):.0f}s")
    service = product.get("service", "empty-registry")
    assert service
    yield f"localhost:{service['spec']['ports'][0]['nodePort']}"
    product.kubectl("delete", "pod,service", "empty-registry", "--wait=false")


def compare(
    stage: Stage, heading: str, job: JobRequest, ids: Mapping[int, int] | None = None, *, tail: bool = True
) -> None:
    """Wait until what is printed is what the page shows.

    :param ids: those of other jobs that it names, as the page has them.
    :param tail: whether its last output is compared, too. It isn't certain where the pod was told to end: the ledger
        may have had the job's end by then, and takes no more of it.
    """
    number, text = shown()[heading]
    known = {job.id: number} | dict(ids or {})
    wanted, found, printed = plain(text, {}), "", ""
    wanted = wanted if tail else wanted.partition(TAIL)[0].strip()

    def is_as_shown() -> bool:
        nonlocal found, printed
        printed = cli.as_seen(stage.product, "why", job.id, KUBECONFIG=stage.reader)
        printed = printed.replace(stage.product.namespace, "shop")
        found = plain(printed, known)
        found = found if tail else found.partition(TAIL)[0].strip()
        return found == wanted

    with contextlib.suppress(AssertionError):
        eventually(is_as_shown, heading)
    if found != wanted:
        print(f"$ spoke-jobs why {number}\n{printed}")  # what to paste into the page
    assert found == wanted, heading


def plain(text: str, ids: Mapping[int, int]) -> str:
    """Without what is another one each time: times, names of pods and nodes, the registry's port, numbers of lines."""
    text = " ".join(text.split()).replace("- ", "-")  # a name may be broken at the end of a line
    text = text.replace(f"{CLUSTER}-", "spoke-test-")
    text = re.sub(r"\b([a-z]+)-\d+-[0-9a-f]{8}(-r\d+)?(-\d+(-[a-z0-9]{5})?)?", r"\1-…", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\b(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\b", "TIME", text)
    text = re.sub(r"\b\d+(\.\d+)? (s|min|h|d)\b( \d+ (s|min|h)\b)?", "SPAN", text)
    text = re.sub(r"\blocalhost:\d+", "localhost:PORT", text)
    text = re.sub(r"\bline \d+", "line …", text)
    text = re.sub(r"\b\d+ tries\b", "TRIES", text)
    for real, name in ids.items():
        text = re.sub(rf"\b(job|report|why|logs|show|retry) {real}\b", rf"\1 {name}", text)
    return text


def test_behind_the_job_that_has_its_queue(stage: Stage) -> None:
    first = stage.runs(stage.dispatch(queue_name="7:reports", locks_queue=True))
    second = stage.dispatch(queue_name="7:reports", locks_queue=True)
    compare(stage, "Another job has its queue", second, {first.id: 41})


def test_suspended(stage: Stage) -> None:
    stage.runs(stage.dispatch(queue_name="8:reports", locks_queue=True))
    second = stage.dispatch(queue_name="8:reports", locks_queue=True)
    stage.product.spokejob(second, "Waiting")
    patch = '--patch={"spec": {"suspend": true}}'
    stage.product.kubectl("patch", "spokejob", name_of(second), "--type=merge", patch)
    compare(stage, "Somebody has suspended it", second)


def test_backing_off(stage: Stage) -> None:
    policy = RetryPolicy(backoff_seconds=600, backoff_max_seconds=600)
    compare(stage, "An attempt has failed, and the next one follows", stage.dispatch("fails", retry=policy))


def test_no_node_has_room(stage: Stage) -> None:
    def huge(pod: Object) -> None:
        pod["containers"][0]["resources"] = {"requests": {"cpu": "400"}}

    compare(stage, "No node fits its pod", stage.dispatch(pod_template=stage.template("huge", huge)))


def test_the_quota_is_used_up(stage: Stage) -> None:
    """Of pods of a PriorityClass, so that nobody else's are counted."""
    product = stage.product
    of_class = f"reports-{product.namespace}"

    def large(pod: Object) -> None:
        pod["priorityClassName"] = of_class
        pod["containers"][0]["resources"] = {"requests": {"cpu": "4"}}

    scope = {"scopeName": "PriorityClass", "operator": "In", "values": [of_class]}
    quota = {"hard": {"cpu": "4"}, "scopeSelector": {"matchExpressions": [scope]}}
    for api, kind, name, content in (
        ("scheduling.k8s.io/v1", "PriorityClass", of_class, {"value": 0, "preemptionPolicy": "Never"}),
        ("v1", "ResourceQuota", "compute", {"spec": quota}),
    ):
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": name}} | content
        product.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    template = stage.template("large", large)
    eventually(lambda: (product.get("quota", "compute") or {}).get("status", {}).get("used"), "the quota counts")
    first = stage.dispatch(pod_template=template)
    eventually(lambda: product.pods(first), "its pod counts")
    compare(stage, "The namespace's quota is used up", stage.dispatch(pod_template=template))


def test_an_image_that_cannot_be_had(stage: Stage, empty_registry: str) -> None:
    def other_image(pod: Object) -> None:
        pod["containers"][0] |= {"image": f"{empty_registry}/shop:2026.11", "imagePullPolicy": "IfNotPresent"}

    name = stage.template("next-release", other_image)
    compare(stage, "Its image can't be pulled", stage.dispatch(pod_template=name))


def test_a_secret_that_is_missing(stage: Stage) -> None:
    def with_secret(pod: Object) -> None:
        variable = {"name": "SMTP_URL", "valueFrom": {"secretKeyRef": {"name": "mail", "key": "url"}}}
        pod["containers"][0]["env"].append(variable)

    name = stage.template("with-mail", with_secret)
    compare(stage, "A Secret is missing", stage.dispatch(pod_template=name))


def test_due_later(stage: Stage) -> None:
    compare(stage, "It isn't due yet", stage.dispatch(run_after=datetime.now(UTC) + timedelta(hours=1)))


def test_a_template_that_is_missing(stage: Stage) -> None:
    compare(stage, "Its PodTemplate is missing", stage.dispatch(pod_template="nightly"))


def test_running(stage: Stage) -> None:
    compare(stage, "An attempt is under way", stage.runs(stage.dispatch()))


def test_an_exception(stage: Stage) -> None:
    job = stage.dispatch("fails", retry=ONCE)
    stage.product.ended(job)
    compare(stage, "Its code raised an exception", job)


def test_out_of_memory(stage: Stage) -> None:
    for _ in range(3):  # on a busy node the kubelet may miss why a container was killed
        job = stage.dispatch("needs memory", retry=ONCE, resources={"limits": {"memory": "256Mi"}})
        if stage.product.ended(job).cause != "Killed":
            break
    compare(stage, "It needed more memory than it may have", job)


def test_a_timeout(stage: Stage) -> None:
    job = stage.dispatch(timeout_seconds=20)  # long enough for its pod to have begun by then
    stage.product.ended(job)
    compare(stage, "It took too long", job, tail=False)


def test_cancelled(stage: Stage) -> None:
    job = stage.runs(stage.dispatch())
    cli.run(stage.product, "cancel", job.id, "--as", "ada@laptop")
    stage.product.ended(job)
    compare(stage, "Somebody has cancelled it", job, tail=False)


def test_its_pod_deleted(stage: Stage) -> None:
    job = stage.runs(stage.dispatch(retry=ONCE))
    stage.product.kubectl("delete", "pod", stage.product.running_pod(job)["metadata"]["name"], "--wait=false")
    stage.product.ended(job)
    compare(stage, "Its pod was deleted", job, tail=False)


def test_an_image_that_could_not_be_had(stage: Stage, empty_registry: str) -> None:
    def other_image(pod: Object) -> None:
        pod["containers"][0] |= {"image": f"{empty_registry}/shop:2026.10", "imagePullPolicy": "IfNotPresent"}

    job = stage.dispatch(pod_template=stage.template("last-release", other_image), start_timeout_seconds=10)
    stage.product.ended(job)
    compare(stage, "Its image could not be pulled", job)


def test_a_payload_of_another_release(stage: Stage) -> None:
    older = Registry()
    older.job("invoice")(lambda _ctx, _payload: None)
    runner = stage.product.runner(older)
    job = runner.dispatch_job(JobData("invoice", {"no": 17}))
    runner.close()
    stage.product.ended(job)
    compare(stage, "Its payload isn't what its release expects", job)


def test_a_success(stage: Stage) -> None:
    job = stage.dispatch("is short")
    stage.product.ended(job)
    compare(stage, "All went well", job)


def test_a_limit(stage: Stage, operator_settings: Callable[..., None]) -> None:
    operator_settings("SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE=2")
    for _ in range(2):
        stage.runs(stage.dispatch(queue_name="9:reports"))
    stage.product.spokejob(stage.dispatch(queue_name="9:reports"))  # turns follow the order in which SpokeJobs appear
    compare(stage, "A limit is reached", stage.dispatch(queue_name="9:reports"))


def test_no_operator(stage: Stage, no_operator: None) -> None:
    job = stage.dispatch()
    stage.product.spokejob(job)
    data = json.dumps({"data": {"time": "2026-11-25T08:00:00+00:00", "state": "{}"}})
    stage.product.kubectl("patch", "configmap", STATE_CONFIGMAP, "--type=merge", f"--patch={data}")
    compare(stage, "No operator runs", job)


def test_every_situation_of_the_page_is_made() -> None:
    source = Path(__file__).read_text()
    assert len(shown()) >= 10
    assert all(f'"{heading}"' in source for heading in shown())
