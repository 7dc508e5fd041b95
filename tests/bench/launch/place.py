"""The cluster, its namespaces, and the processes that run beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Cluster, Object, Product, image_values, installed, port_forward

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LAUNCH, HISTORY, OPERATOR = "bench-launch", "bench-history", "bench-operator"
FAKE_NODES = 10
_TICKS = os.sysconf("SC_CLK_TCK")


def cluster_of(name: str) -> Cluster:
    """The cluster, made if it isn't there, with the CRD of this tree."""
    subprocess.run([ROOT / "tests/cluster/build"], check=True)
    subprocess.run([ROOT / "tests/cluster/build-programs", "kwok"], check=True)
    subprocess.run([ROOT / "tests/cluster/up", name, "1"], check=True, stdout=subprocess.DEVNULL)
    script = f'eval "$(tests/cluster/env {name})" && env -0'
    shell = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    cluster = Cluster(dict(line.split("=", 1) for line in shell.stdout.split("\0") if "=" in line))
    os.environ["KUBECONFIG"] = cluster.env["KUBECONFIG"]
    os.environ["PATH"] = cluster.env["PATH"]
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=crds")
    # The admission policies come and go with the operator. Without a binding that stays, they would work only once.
    cluster.kubectl("apply", f"--filename={ROOT / 'tests/e2e/podtemplates-watched.yaml'}")
    return cluster


def fresh_namespace(cluster: Cluster, name: str) -> None:
    """An empty namespace of that name."""
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=300s")
    cluster.namespace(name)


@contextmanager
def application(cluster: Cluster, name: str, values: Object | None = None) -> Iterator[Product]:
    """The texting example's release, with the benchmark's jobs in its image, and with further values."""
    names = _images(cluster)
    content = b"".join(path.read_bytes() for path in sorted((HERE / "image").iterdir()))
    fingerprint = hashlib.sha256(content + names["TEXTING_IMAGE"].encode()).hexdigest()[:12]
    image = f"spoke-jobs-bench:{fingerprint}"
    command = ("docker", "build", "--quiet", "--network=none", f"--build-arg=TEXTING_IMAGE={names['TEXTING_IMAGE']}")
    cluster.run(*command, f"--tag={image}", str(HERE / "image"), env={"DOCKER_BUILDKIT": "1"})
    cluster.run(str(ROOT / "tests/cluster/load"), name, image)
    copy = Path(cluster.run("mktemp", "--directory").strip())
    cluster.run("cp", "-r", "--parents", "charts/spoke-app", "examples/texting/chart", str(copy))
    chart = str(copy / "examples/texting/chart")
    cluster.run("helm", "dependency", "update", "--skip-refresh", chart)
    fresh_namespace(cluster, LAUNCH)
    with installed(cluster, chart, image, LAUNCH, "launch_jobs", common=values) as product:
        yield product
    shutil.rmtree(copy)


def _images(cluster: Cluster) -> dict[str, str]:
    """The names of our images, built if they aren't there."""
    return dict(line.split("=", 1) for line in cluster.run(str(ROOT / "scripts/images")).split())


@contextmanager
def installed_operator(cluster: Cluster, name: str) -> Iterator[int]:
    """Our operator in the cluster, as its chart installs it, with standby pods; gives the port of its metrics."""
    image = _images(cluster)["OPERATOR_IMAGE"]
    cluster.run(str(ROOT / "tests/cluster/load"), name, image)
    fresh_namespace(cluster, OPERATOR)
    values = {
        "image": image_values(image),
        "replicas": 1,
        "watchNamespaces": [LAUNCH],
        "crds": {"enabled": False},
        "admissionPolicies": {"enabled": True},
        "operator": {"standbyPods": True},
    }
    cluster.install("spoke-operator", "charts/spoke-operator", OPERATOR, values)
    try:
        with port_forward(cluster, OPERATOR, "deployment/spoke-operator", 8080) as port:
            yield port
    finally:
        cluster.run("helm", "uninstall", "spoke-operator", "--namespace", OPERATOR, "--wait")


def free_standby_pods(port: int) -> float:
    """How many standby pods wait, as the operator's metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    free = (line for line in lines if line.startswith("spoke_operator_standby_pods{") and 'state="free"' in line)
    return sum(float(line.rsplit(" ", 1)[1]) for line in free)


@dataclass
class Running:
    """A process that is measured."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float

    @property
    def cpu_seconds(self) -> float:
        """Of its own, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def megabytes(self) -> float:
        """Resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, where that is JSON."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def said(self, message: str) -> dict[str, Any] | None:
        """The first line with that message."""
        return next((line for line in self.lines() if line.get("message") == message), None)

    def metric(self, name: str) -> float:
        """A metric of the operator's, summed over its labels."""
        port = self.lines()[0]["health_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[Running]:
    """A process, ended with the block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=stream, stderr=stream)
    try:
        yield Running(process, log, time.time())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


@contextmanager
def operator(folder: Path, namespaces: str, **environment: str) -> Iterator[Running]:
    """Our operator with its defaults, once it is ready."""
    settings = {
        "SPOKE_OPERATOR_NAMESPACES": namespaces,
        "SPOKE_OPERATOR_HEALTH_HOST": "127.0.0.1",
        "SPOKE_OPERATOR_HEALTH_PORT": "0",
    }
    command = [sys.executable, "-m", "spoke_jobs_operator"]
    with running(command, folder / "operator.log", **settings, **environment) as process:
        until("the operator is ready", lambda: process.said("ready"), 120)
        yield process


@contextmanager
def fake_nodes(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Nodes of kwok's, whose pods run and end without a container."""
    for number in range(FAKE_NODES):
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(_fake_node(f"fake-{number}")))
    selector = "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"
    # Without leases the nodes would count as gone after 50 s, in the midst of a burst: their pods are marked, and no
    # other comes to them.
    leases = "--node-lease-duration-seconds=40"
    command = ["kwok", f"--kubeconfig={cluster.env['KUBECONFIG']}", "--manage-all-nodes=false", selector, leases]
    try:
        with running(command, folder / "kwok.log"):
            cluster.kubectl("wait", "--for=condition=Ready", "node", "--selector=type=fake", "--timeout=60s")
            yield
    finally:
        cluster.kubectl("delete", "nodes", "--selector=type=fake", "--wait=false")


def _fake_node(name: str) -> dict[str, Any]:
    capacity = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "fake", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": capacity, "capacity": capacity},
    }


def until(what: str, look: Callable[[], Any], seconds: float) -> Any:
    """What the look finds. :raises TimeoutError: if it finds nothing in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return found
