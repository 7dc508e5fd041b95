"""The real cluster, a stand-in image, a namespace that enforces ``restricted``, and the operator as a process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from tests.exclusive import HEAVY, exclusive
from tests.leftovers import namespace_metadata
from tests.preloaded import Program
from tests.waiting import WITHIN_SECONDS, eventually, patient

ROOT = Path(__file__).parents[3]
CLUSTER = os.environ.get("SPOKE_TEST_CLUSTER", "spoke-test")
NODE, NODE_TO_STOP = f"{CLUSTER}-worker", f"{CLUSTER}-worker2"
STANDIN = Path(__file__).with_name("standin")
GROUP, VERSION, PLURAL = "jobs.spoke.dev", "v1", "spokejobs"
Object = dict[str, Any]


def run_or_fail(command: list[str], env: dict[str, str]) -> None:
    """Run a command; its output is the error message if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}"


def reach_cluster() -> dict[str, str]:
    """The environment in which kubectl, kind and docker reach the test cluster."""
    script = f'eval "$(tests/cluster/env {CLUSTER})" && env -0'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"no test cluster; `tests/cluster/up {CLUSTER}` makes one: {done.stderr}"
    env = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    return env | {"KUBECONFIG": os.environ.get("SPOKE_TEST_KUBECONFIG", env["KUBECONFIG"])}


@pytest.fixture(scope="session")
def cluster_env() -> dict[str, str]:
    """The environment in which kubectl, kind and docker reach the test cluster."""
    return reach_cluster()


def bring_standin(env: Mapping[str, str]) -> str:
    """Build the stand-in image and load it on all nodes; gives its name."""
    content = b"".join(path.read_bytes() for path in sorted(STANDIN.iterdir()))
    base = env["SPOKE_PYTHON_BASE_IMAGE"]
    name = f"spoke-operator-standin:{hashlib.sha256(content + base.encode()).hexdigest()[:12]}"
    build = ["docker", "build", "--quiet", "--build-arg", f"BASE_IMAGE={base}", "--tag", name, str(STANDIN)]
    with exclusive(HEAVY):
        run_or_fail(build, {**env, "DOCKER_BUILDKIT": "1"})
    with exclusive(NODE_TO_STOP):
        run_or_fail(["tests/cluster/load", CLUSTER, name], dict(env))
    return name


@pytest.fixture(scope="session")
def image(cluster_env: dict[str, str]) -> str:
    """The stand-in image, on all nodes."""
    return bring_standin(cluster_env)


class Cluster:
    """What a test does in its namespace."""

    def __init__(self, env: dict[str, str], namespace: str, image: str) -> None:
        self.env = env
        api = kubernetes.config.new_client_from_config(env["KUBECONFIG"])
        self.api = api
        self.core = kubernetes.client.CoreV1Api(api)
        self.batch = kubernetes.client.BatchV1Api(api)
        self.custom = kubernetes.client.CustomObjectsApi(api)
        self.namespace = namespace
        self.image = image

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace; gives what it prints."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def template(
        self,
        name: str,
        standin: str,
        *,
        image: str | None = None,
        pod: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make a PodTemplate whose attempts do as ``standin`` says; ``pod`` and ``container`` add to their specs.

        The pod's field `beside` holds containers beside the job's. Containers without an image get the stand-in's.
        """
        spec = deepcopy(dict(pod or {}))
        beside = spec.pop("beside", [])
        for other in (*beside, *spec.get("initContainers", ())):
            other.setdefault("image", self.image)
        body = {
            "name": "job",
            "image": image or self.image,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "STANDIN", "value": standin}],
        } | dict(container or {})
        allowed = {"jobs.spoke.dev/template": "true"}
        self.core.create_namespaced_pod_template(
            self.namespace,
            {
                "metadata": {"name": name, "labels": allowed if labels is None else dict(labels)},
                "template": {"spec": {"containers": [body, *beside], "terminationGracePeriodSeconds": 5} | spec},
            },
        )

    def submit(self, template: str, labels: Mapping[str, str] | None = None, **spec: Any) -> str:
        """Create a SpokeJob; gives its name."""
        uid = uuid.uuid4()
        name = f"standin-1-{uid.hex[:8]}"
        full = {"uid": str(uid), "requestId": 1, "jobType": "standin", "podTemplate": template} | spec
        full.setdefault("retry", {"backoffSeconds": 0.5})
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "SpokeJob",
            "metadata": {"name": name, "labels": dict(labels or {})},
            "spec": full,
        }
        self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)
        return name

    def spokejobs(self) -> list[Object]:
        """All of the namespace."""
        answer = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL)
        found: list[Object] = answer["items"]
        return found

    def status(self, name: str) -> Object:
        """The SpokeJob's status."""
        body = self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        status: Object = body.get("status", {})
        return status

    def until(self, name: str, wanted: Callable[[Object], Any], within: float = WITHIN_SECONDS) -> Object:
        """The SpokeJob's status once it is as wanted."""
        last: list[Object] = [{}]

        def look() -> Object | None:
            last[0] = self.status(name)
            return last[0] if wanted(last[0]) else None

        try:
            return eventually(look, f"SpokeJob {name} as wanted", within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {json.dumps(last[0], indent=1)}") from None

    def until_final(self, name: str, within: float = WITHIN_SECONDS) -> Object:
        """The SpokeJob's status once it is final."""
        return self.until(name, lambda status: status.get("outcome") in ("Succeeded", "Failed"), within)

    def apply_as_sync(self, name: str, status: Object) -> None:
        """Write the part of the SpokeJob's status that is sync's."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SpokeJob", "metadata": {"name": name}, "status": status}
        apply = ("apply", "--server-side", "--subresource=status", "--field-manager=spoke-sync", "--filename=-")
        self.kubectl(*apply, stdin=json.dumps(body))

    def pod_of(self, name: str, attempt: int) -> str:
        """The running pod of an attempt."""
        selector = f"jobs.spoke.dev/spokejob={name},jobs.spoke.dev/attempt={attempt}"

        def look() -> str | None:
            pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
            running = [pod.metadata.name for pod in pods if pod.status.phase == "Running"]
            return running[0] if running else None

        return eventually(look, f"a running pod of {name}, attempt {attempt}")


@pytest.fixture(scope="session")
def cluster(cluster_env: dict[str, str], image: str) -> Iterator[Cluster]:
    """A namespace with the CRD at hand."""
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--filename", "crds"]
    run_or_fail(apply, cluster_env)
    definitions = ["crd/spokejobs.jobs.spoke.dev", "crd/spokelimits.jobs.spoke.dev"]
    run_or_fail(
        ["kubectl", "wait", "--for=condition=Established", *definitions, f"--timeout={patient(300):.0f}s"], cluster_env
    )
    with new_namespace(cluster_env, image) as cluster:
        yield cluster


@pytest.fixture
def apart(cluster: Cluster, cluster_env: dict[str, str], image: str) -> Iterator[Cluster]:
    """A namespace of the test's own: nothing of other tests is in it."""
    with new_namespace(cluster_env, image) as own:
        yield own


@contextmanager
def new_namespace(cluster_env: dict[str, str], image: str) -> Iterator[Cluster]:
    """A namespace that enforces ``restricted``; it goes at the end."""
    namespace = f"operator-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(cluster_env, namespace, image)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.create_namespace({"metadata": namespace_metadata(namespace, labels)})
    yield cluster
    cluster.core.delete_namespace(namespace)
    cluster.api.close()


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A kubeconfig with the rights of ``role.yaml`` and no other."""
    return limited_kubeconfig(cluster, tmp_path_factory.mktemp("operator"))


def limited_kubeconfig(cluster: Cluster, folder: Path) -> str:
    """A kubeconfig with the rights of ``role.yaml`` in the namespace, and no other."""
    cluster.kubectl("apply", "--filename", str(Path(__file__).with_name("role.yaml")))
    token = cluster.kubectl("create", "token", "operator-under-test", "--duration=2h").strip()
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--raw", "--output=json"))
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = "operator"
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


class OperatorProcess:
    """``python -m spoke_jobs_operator``, or another script that runs it, for one namespace."""

    def __init__(
        self, kubeconfig: str, namespace: str, log: Path, script: Sequence[str] = ("-m", "spoke_jobs_operator")
    ) -> None:
        self._script = script
        self._env = os.environ | {
            "KUBECONFIG": kubeconfig,
            "SPOKE_OPERATOR_NAMESPACES": namespace,
            "SPOKE_OPERATOR_HEALTH_HOST": "127.0.0.1",
            "SPOKE_OPERATOR_HEALTH_PORT": "0",
            "SPOKE_OPERATOR_JOB_RETENTION_SECONDS": "5",
            "SPOKE_OPERATOR_FAILED_JOB_RETENTION_SECONDS": "5",
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0

    def start(self, **env: str) -> None:
        """Start, and wait until it is ready."""
        self.launch(**env)
        eventually(lambda: self.said("ready") or self._dead(), "the operator is ready")

    def launch(self, **env: str) -> None:
        """Start, and wait for nothing."""
        self._read_from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as stream:
            self._process = Program("operator", self._script, env=self._env | env, stderr=stream, stdout=stream)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=patient(30))

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait(timeout=patient(30))

    def thaw(self) -> None:
        """Let it go on after a SIGSTOP."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process
        return self._process.wait(timeout=patient(30))

    @property
    def frozen(self) -> bool:
        """Whether it is stopped as by SIGSTOP."""
        assert self._process
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def logged(self) -> list[Object]:
        """The log's lines since the last start."""
        with self._log.open() as stream:
            stream.seek(self._read_from)
            lines = stream.read().splitlines()
        parsed = []
        for line in lines:
            try:
                parsed.append(json.loads(line))
            except ValueError:
                parsed.append({"message": line, "level": "plain"})
        return parsed

    def said(self, message: str) -> Object | None:
        """The first line with this message."""
        return next((line for line in self.logged() if line["message"] == message), None)

    def get(self, path: str) -> str:
        """What its HTTP server answers."""
        port = self.logged()[0]["health_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=patient(30)) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str) -> float:
        """A metric's sum over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def _dead(self) -> None:
        assert self.running, f"the operator ended: {self._log.read_text()}"


@pytest.fixture
def operator(operator_kubeconfig: str, cluster: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator, started; its log is shown if the test fails."""
    process = OperatorProcess(operator_kubeconfig, cluster.namespace, tmp_path / "operator.log")
    process.start()
    yield process
    if process.running:
        assert process.stop() == 0
    print((tmp_path / "operator.log").read_text())


@pytest.fixture
def own(apart: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator for a namespace of the test's own, to be started."""
    process = OperatorProcess(limited_kubeconfig(apart, tmp_path), apart.namespace, tmp_path / "operator.log")
    yield process
    if process.running:
        assert process.stop() == 0
    print((tmp_path / "operator.log").read_text())
