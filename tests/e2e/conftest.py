"""The whole product on kind: cluster, images, both charts, in namespaces that enforce ``restricted``.

The operator is installed for these namespaces only (so without a ClusterRole), and the tests reach PostgreSQL by the
worker's address and the task deployment by ``kubectl port-forward``: what they dispatch, they dispatch from this
process, as an application outside the cluster would.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, MetaData
from sqlalchemy.engine import make_url
from tests.exclusive import HEAVY, exclusive
from tests.integration.tasks.support.certificates import Authority
from tests.integration.web.browser.browsing import pytest_runtest_makereport  # noqa: F401 (pytest looks for it here)
from tests.leftovers import namespace_metadata, remove_leftovers, remove_namespace
from tests.waiting import WITHIN_SECONDS, eventually, patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

from .reading import close as close_readers
from .reading import path_of, read

if TYPE_CHECKING:
    from .beside import Scene

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLUSTER = os.environ.get("SPOKE_TEST_CLUSTER", "spoke-test")
NODE_THAT_STOPS = f"{CLUSTER}-worker2"
"""Nothing runs there but what tolerates that a test of another process stops it."""
LEASE_SECONDS = "10"
"""Shorter than the default, since tests kill pods and wait for their leases to lapse."""

KEEP = bool(os.environ.get("SPOKE_TEST_KEEP"))
"""Whether what was installed is left, to be looked at."""
GRACE_SECONDS = 5
"""Shorter than the default, since most of these jobs don't look whether they are asked to stop."""

PATIENT = {"connect_timeout": round(patient(60))}
"""How the tests themselves connect to a database: the machine may be busy."""
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")
PROCESS_LABEL = "spoke-jobs/e2e-process"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", PROCESS_LABEL: PROCESS}
"""The labels of these tests' namespaces, besides that of the run."""
DEFINITIONS = f"{CLUSTER}-definitions"
"""The lock for changes of the release that owns the CustomResourceDefinitions: the last one that was installed."""
WATCHER = {"spoke-jobs/e2e": "watcher"}
"""Pods that may read metrics."""

Object = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of these tests makes cluster and images, if they aren't there; the search for leaks comes last."""
    items.sort(key=lambda item: item.path == HERE / "test_secrecy.py")
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


@dataclass(frozen=True)
class Cluster:
    """The kind cluster and its tools."""

    env: dict[str, str] = field(repr=False)

    def run(self, *command: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
        """What a command prints. :raises AssertionError: with all its words, if it fails."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.env | (env or {}), input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Object | None:
        """An object, or a list of them; None if it isn't there."""
        if path := path_of(arguments):
            return read(self.env["KUBECONFIG"], path)
        answer = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found")
        return json.loads(answer) if answer.strip() else None

    def load(self, *images: str) -> None:
        """Bring images to all nodes."""
        with exclusive(NODE_THAT_STOPS):
            self.run(str(ROOT / "tests/cluster/load"), CLUSTER, *images)

    def install(self, release: str, chart: str, namespace: str, values: Object) -> None:
        """``helm upgrade --install``, also over what a killed run left."""
        with exclusive(DEFINITIONS) if Path(chart).name == "spoke-operator" else nullcontext():
            self.install_holding_definitions(release, chart, namespace, values)

    def install_holding_definitions(self, release: str, chart: str, namespace: str, values: Object) -> None:
        """Do the same for a caller that holds the lock, if the chart has the definitions."""
        where = ("--namespace", namespace)
        listed = json.loads(self.run("helm", "list", "--all", "--filter", f"^{release}$", *where, "--output=json"))
        if any(item["status"] != "deployed" for item in listed):
            self.run("helm", "uninstall", release, *where, "--wait", f"--timeout={patient(300):.0f}s")
        command = ["helm", "upgrade", "--install", release, chart, *where, "--wait", f"--timeout={patient(300):.0f}s"]
        with exclusive(HEAVY):
            self.run(*command, "--take-ownership", "--values=-", stdin=json.dumps(values))

    def namespace(self, name: str, labels: dict[str, str] = RESTRICTED) -> None:
        """Make a namespace that enforces ``restricted``."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace_metadata(name, labels)}
        self.kubectl("apply", "--filename=-", stdin=json.dumps(body))

    def remove(self, namespace: str) -> None:
        """Delete a namespace, with the cluster-scoped objects of what was installed there."""
        remove_namespace(self.kubectl, namespace)


@dataclass(frozen=True)
class Images:
    """The images' names, on all nodes that run pods."""

    operator: str
    application: str


@dataclass
class Product:
    """An application installed with its database, and a runner of this process that dispatches to it."""

    cluster: Cluster
    namespace: str
    release: str
    url: str = field(repr=False)
    tasks_url: str
    tasks_key: str = field(repr=False)
    tasks_ca_file: str = ""
    engine: Engine = field(init=False)
    ledger: SqlLedger = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url, connect_args=PATIENT)
        self.ledger = SqlLedger(self.engine)

    def runner(self, registry: Registry, submit: Literal["runner", "sync"] = "runner") -> KubernetesRunner:
        """A runner as an application has it; the caller closes it."""
        settings = Settings(
            job_runner="kubernetes",
            database_url=SecretStr(self.url),
            namespace=self.namespace,
            tasks_url=self.tasks_url,
            tasks_key=SecretStr(self.tasks_key),
            tasks_ca_file=self.tasks_ca_file,
            submit=submit,
        )
        return KubernetesRunner(settings, registry)

    def create_tables(self, metadata: MetaData) -> None:
        """Make the tables of a test's own."""
        metadata.create_all(self.engine)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints, in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Object | None:
        """An object of the namespace; None if it isn't there."""
        return self.cluster.get("--namespace", self.namespace, *arguments)

    def apply_template(self, template: Object) -> None:
        """Make a PodTemplate like the chart's own: its account may run it."""
        name, account = template["metadata"]["name"], template["template"]["spec"]["serviceAccountName"]
        rule = {"apiGroups": [""], "resources": ["podtemplates"], "resourceNames": [name], "verbs": ["run"]}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": f"run-{name}"}}
        role = rbac | {"kind": "Role", "rules": [rule]}
        binding = rbac | {
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"run-{name}"},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
        }
        items = {"apiVersion": "v1", "kind": "List", "items": [template, role, binding]}
        self.kubectl("apply", "--filename=-", stdin=json.dumps(items))

    def row(self, job: JobRequest) -> JobRequest:
        """The job's row as it is now."""
        row = self.ledger.get(job.id)
        assert row is not None
        return row

    def ended(self, job: JobRequest, within: float = WITHIN_SECONDS) -> JobRequest:
        """The job's row, once it is final."""
        return eventually(
            lambda: row if (row := self.row(job)).state.final else None,
            f"job {job.id} ({job.job_type}) to end in {self.namespace}",
            within=within,
        )

    def spokejob(self, job: JobRequest, outcome: str = "", within: float = WITHIN_SECONDS) -> Object:
        """The job's SpokeJob, once its outcome is that, or as soon as it is there."""
        from spoke_jobs.cluster.manifest import name_of

        def look() -> Object | None:
            found = self.get("spokejob", name_of(job))
            if found and (not outcome or (found.get("status") or {}).get("outcome") == outcome):
                return found
            return None

        return eventually(look, f"SpokeJob {name_of(job)} {outcome}", within=within)

    def pods(self, job: JobRequest) -> list[Object]:
        """The pods of the job's attempts, the oldest first."""
        found = self.get("pods", "--selector", f"jobs.spoke.dev/uid={job.uid}")
        items: list[Object] = (found or {"items": []})["items"]
        return sorted(items, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def running_pod(self, job: JobRequest, within: float = WITHIN_SECONDS) -> Object:
        """A pod of the job's, once its container runs. The limit is for a busy machine, on which pods start slowly."""

        def look() -> Object | None:
            running = [pod for pod in self.pods(job) if pod["status"].get("phase") == "Running"]
            return running[-1] if running else None

        def state() -> tuple[object, ...]:
            return self.row(job), self.get("spokejobs"), [pod["status"] for pod in self.pods(job)]

        return eventually(look, f"a running pod of job {job.id}", within=within, state=state)


def running_cluster() -> Cluster:
    """The cluster, made or mended if need be."""
    with exclusive(NODE_THAT_STOPS):  # up would start it again
        up = subprocess.run([ROOT / "scripts/test-cluster"], stdout=subprocess.PIPE, text=True, check=False)
    assert up.returncode == 0, "scripts/test-cluster failed"
    script = f'eval "$(tests/cluster/env {CLUSTER})" && env -0'
    shell = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return Cluster(dict(line.split("=", 1) for line in shell.stdout.split("\0") if "=" in line))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A healthy cluster; KUBECONFIG of this process names it as well."""
    cluster = running_cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", cluster.env["KUBECONFIG"])
        # Tests install and remove the admission policies. Without a binding that stays, they would work only once.
        cluster.kubectl("apply", f"--filename={HERE / 'podtemplates-watched.yaml'}")
        yield cluster
        close_readers()


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster) -> Iterator[str]:
    """A namespace without anything of ours."""
    name = f"e2e-elsewhere-{uuid.uuid4().hex[:6]}"
    cluster.namespace(name)
    yield name
    cluster.remove(name)


def built_images(cluster: Cluster, context: Path) -> Images:
    """The operator's image, and the texting example's with the modules of that folder beside it; built if need be."""
    with exclusive(HEAVY):
        names = dict(line.split("=", 1) for line in cluster.run(str(ROOT / "scripts/images")).split())
    texting = names["TEXTING_IMAGE"]
    shutil.copy(HERE / "image/Dockerfile", context / "Dockerfile")
    content = b"".join(path.read_bytes() for path in sorted(context.rglob("*")) if path.is_file())
    image = f"spoke-jobs-e2e:{hashlib.sha256(content + texting.encode()).hexdigest()[:12]}"
    build = ("docker", "build", "--quiet", "--network=none", f"--build-arg=TEXTING_IMAGE={texting}", f"--tag={image}")
    with exclusive(HEAVY):
        cluster.run(*build, str(context), env={"DOCKER_BUILDKIT": "1"})
    cluster.load(names["OPERATOR_IMAGE"], image)
    return Images(operator=names["OPERATOR_IMAGE"], application=image)


@pytest.fixture(scope="session")
def images(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The operator's image, and the texting example's with the tests' jobs."""
    context = tmp_path_factory.mktemp("image")
    for module in ("e2e_jobs.py", "connecting.py"):
        shutil.copy(HERE / module, context)
    (context / "tests/contract").mkdir(parents=True)
    shutil.copy(ROOT / "tests/contract/app.py", context / "tests/contract")
    return built_images(cluster, context)


@pytest.fixture(scope="package")
def namespaces(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Fresh namespaces, by what they are for; what killed runs left is deleted."""
    remove_leftovers(cluster.kubectl)
    suffix = uuid.uuid4().hex[:6]
    names = {purpose: f"e2e-{purpose}-{suffix}" for purpose in ("jobs", "contract", "system")}
    for name in names.values():
        cluster.namespace(name)
    yield names
    if not KEEP:
        for name in names.values():
            cluster.remove(name)


@pytest.fixture(scope="package")
def operator(cluster: Cluster, images: Images, namespaces: dict[str, str]) -> Iterator[str]:
    """The operator, serving the namespaces; gives its own. It goes with these tests: others need the machine."""
    home = namespaces["system"]
    served = [name for name in namespaces.values() if name != home]
    values = {"image": image_values(images.operator), "watchNamespaces": served}
    cluster.install("spoke-operator", "charts/spoke-operator", home, values)
    yield home
    if not KEEP:
        cluster.run("helm", "uninstall", "spoke-operator", "--namespace", home)


def packed_chart(cluster: Cluster, copy: Path) -> str:
    """The example's chart with its dependency packed, in that folder: the working tree is let be."""
    cluster.run("cp", "-r", "--parents", "charts/spoke-app", "examples/texting/chart", str(copy))
    chart = str(copy / "examples/texting/chart")
    cluster.run("helm", "dependency", "update", "--skip-refresh", chart)
    return chart


@pytest.fixture(scope="session")
def texting_chart(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """See ``packed_chart``."""
    return packed_chart(cluster, tmp_path_factory.mktemp("charts"))


@pytest.fixture(scope="package")
def product(
    cluster: Cluster, images: Images, namespaces: dict[str, str], operator: str, texting_chart: str
) -> Iterator[Product]:
    """The texting example, with the tests' jobs."""
    assert operator
    from . import e2e_jobs

    with installed(cluster, texting_chart, images.application, namespaces["jobs"], "e2e_jobs") as product:
        product.create_tables(e2e_jobs.metadata)
        yield product


@pytest.fixture(scope="package")
def runner(product: Product) -> Iterator[KubernetesRunner]:
    """A runner of this process for all that the product's pods know."""
    from spoke_jobs import registry

    from . import e2e_jobs  # noqa: F401 (declares them)

    runner = product.runner(registry.default)
    yield runner
    runner.close()


@pytest.fixture
def beside(cluster: Cluster, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """See ``beside``: processes of ours that run on this machine, and the cluster's pods."""
    from .beside import Scene

    with ExitStack() as stack:
        made = Scene(cluster, images.application, tmp_path, stack)
        monkeypatch.setenv("KUBECONFIG", made.kubeconfig)
        yield made
        made.api.mend()


@pytest.fixture(scope="package")
def contract_product(
    cluster: Cluster,
    images: Images,
    namespaces: dict[str, str],
    operator: str,
    texting_chart: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Product]:
    """The application of the runners' contract (tests/contract/app.py), in a namespace and a database of its own.

    Its tasks are served over TLS, and its Secrets are files in all pods.
    """
    assert operator
    app, folder = "tests.contract.app:registry", tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    signed = authority.sign("tasks", "texting-tasks", "127.0.0.1")
    files = (f"--from-file=tls.crt={signed.cert}", f"--from-file=tls.key={signed.key}")
    where = ("--namespace", namespaces["contract"])
    cluster.kubectl(*where, "create", "secret", "generic", "tls", *files, f"--from-file=ca.crt={authority.cert}")
    tls = {"tls": {"enabled": True, "secretName": "tls"}}
    with installed(
        cluster, texting_chart, images.application, namespaces["contract"], app, tls, common={"secretsAsFiles": True}
    ) as product:
        product.tasks_url = product.tasks_url.replace("http:", "https:")
        product.tasks_ca_file = str(authority.cert)
        yield product


@contextmanager
def installed(
    cluster: Cluster,
    chart: str,
    image: str,
    namespace: str,
    app: str,
    tasks: Object | None = None,
    pods: Object | None = None,
    common: Object | None = None,
    database: Object | None = None,
) -> Iterator[Product]:
    """The chart's release ``texting`` in the namespace, with its database and tasks in reach of this process.

    :param tasks: values of the task deployment.
    :param pods: values of the PodTemplates' defaults.
    :param common: values of all its pods.
    :param database: values of PostgreSQL.
    """
    release = "texting"
    values = {
        "spoke-app": {
            "app": app,
            "image": image_values(image),
            "podTemplateDefaults": {
                "env": [{"name": "SPOKE_LEASE_SECONDS", "value": LEASE_SECONDS}],
                "terminationGracePeriodSeconds": GRACE_SECONDS,
            }
            | (pods or {}),
            "tasks": {"replicas": 1} | (tasks or {}),
            "networkPolicy": {"ingress": {"metrics": [{"podSelector": {"matchLabels": WATCHER}}]}},
        }
        | (common or {}),
        "postgresql": {"serviceType": "NodePort"} | (database or {}),
    }
    cluster.install(release, chart, namespace, values)
    with port_forward(cluster, namespace, f"service/{release}-tasks", 8080) as port:
        product = Product(
            cluster=cluster,
            namespace=namespace,
            release=release,
            url=database_url(cluster, namespace, release),
            tasks_url=f"http://127.0.0.1:{port}",
            tasks_key=secret(cluster, namespace, f"{release}-tasks-key", "key"),
        )
        yield product
        product.engine.dispose()


def database_url(cluster: Cluster, namespace: str, release: str) -> str:
    """The database's URL as this process reaches it: at a node's address."""
    service = cluster.get("--namespace", namespace, "service", f"{release}-database")
    nodes = cluster.get("nodes")
    assert service
    assert nodes
    addresses = [item["address"] for item in nodes["items"][0]["status"]["addresses"] if item["type"] == "InternalIP"]
    inside = make_url(secret(cluster, namespace, f"{release}-database", "url"))
    outside = inside.set(host=addresses[0], port=service["spec"]["ports"][0]["nodePort"])
    return outside.render_as_string(hide_password=False)


def secret(cluster: Cluster, namespace: str, name: str, key: str) -> str:
    """A Secret's value."""
    template = f'--output=go-template={{{{index .data "{key}" | base64decode}}}}'
    return cluster.kubectl("--namespace", namespace, "get", "secret", name, template)


@contextmanager
def port_forward(cluster: Cluster, namespace: str, target: str, port: int) -> Iterator[int]:
    """A port of this machine that leads there."""
    command = ["kubectl", "--namespace", namespace, "port-forward", target, f":{port}"]
    process = subprocess.Popen(command, env=cluster.env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # "Forwarding from 127.0.0.1:12345 -> 8080"
        assert line.startswith("Forwarding from 127.0.0.1:"), f"{' '.join(command)}: {line or 'ended'}"
        yield int(line.split()[2].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(patient(30))
        if process.stdout is not None:
            process.stdout.close()


def image_values(image: str) -> Object:
    """An image's name as the charts take it."""
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}
