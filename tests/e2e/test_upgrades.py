"""Upgrades, versions that differ, and what is left where either chart is uninstalled: with jobs running all the while.

The release after this one is made of this one's images and a layer that adds to the contract and has a migration more
(next_release).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from sqlalchemy import insert, text
from tests.exclusive import HEAVY, exclusive
from tests.waiting import eventually, patient

from spoke_jobs import registry
from spoke_jobs.contract import environment
from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.ledger.tables import VERSION_TABLE
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners import kubernetes_runner
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import DEFINITIONS, HERE, ROOT, Cluster, Images, Object, Product, image_values, installed

pytestmark = pytest.mark.timeout(900)

(NEXT_MIGRATION,) = re.findall(r'^revision = "(\d+)"$', (HERE / "next_release/migration.py").read_text(), re.MULTILINE)

OPERATOR = "upgraded"
"""The operator's release, in the namespace that it serves."""
APPLICATION = "texting"


@dataclass
class Place:
    """A namespace with both charts, each of one of several releases. The mappings have the releases' names as keys."""

    cluster: Cluster
    namespace: str
    operator_images: dict[str, str]
    application_images: dict[str, str]
    operator_charts: dict[str, str]
    texting_charts: dict[str, str]
    product: Product = field(init=False)

    def operator(self, release: str, **more: Object) -> None:
        """See that the operator is of that release and has these values, upgrading it if need be."""
        values = {"image": image_values(self.operator_images[release]), "watchNamespaces": [self.namespace]} | more
        self.cluster.install(OPERATOR, self.operator_charts[release], self.namespace, values)

    def goes_back(self, name: str) -> None:
        """Return to what was installed first, as docs/upgrading.md has it."""
        where = ("--namespace", self.namespace, "--wait", f"--timeout={patient(300):.0f}s")
        with exclusive(DEFINITIONS), exclusive(HEAVY):
            self.cluster.run("helm", "rollback", name, "1", *where)

    def application(self, release: str, *, database: bool = True) -> None:
        """See that the application is of that release. Without ``database`` the one that is there is left alone."""
        values = self._values(release) | {"postgresql": {"enabled": database, "serviceType": "NodePort"}}
        self.cluster.install(APPLICATION, self.texting_charts[release], self.namespace, values)

    def uninstall(self, release: str) -> None:
        """Take a release away, by helm."""
        self.cluster.run(
            "helm", "uninstall", release, "--namespace", self.namespace, "--wait", f"--timeout={patient(300):.0f}s"
        )

    def _values(self, release: str) -> Object:
        return {
            "spoke-app": {
                "app": "e2e_jobs",
                "image": image_values(self.application_images[release]),
                "tasks": {"replicas": 1},
            },
        }


@dataclass(frozen=True)
class Running:
    """Jobs with a pod each, and one that waits for the queue of the first."""

    product: Product
    jobs: list[JobRequest]
    waiting: JobRequest
    pods: list[str]
    """Their uids."""

    def end_undisturbed(self) -> None:
        """Each ran in the pod that it had, which never started anew; the waiting one had its turn."""
        self.pods_end_undisturbed()
        assert self.product.ended(self.waiting).state is JobState.SUCCEEDED

    def pods_end_undisturbed(self) -> None:
        """Each ran in the pod that it had, which never started anew."""
        for job, pod in zip(self.jobs, self.pods, strict=True):
            assert self.product.ended(job).state is JobState.SUCCEEDED
            assert len(self.product.ledger.attempts(job.id)) == 1
            assert [item["uid"] for item in map(_metadata, self.product.pods(job))] in ([pod], [])
            assert self.product.spokejob(job, "Succeeded")["status"]["attempt"] == 1


def _metadata(item: Object) -> Object:
    metadata: Object = item["metadata"]
    return metadata


@pytest.fixture(scope="module")
def place(
    cluster: Cluster, images: Images, texting_chart: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    namespace = f"e2e-upgrades-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    place = Place(
        cluster,
        namespace,
        {"this": images.operator, "next": of_next_release(cluster, images.operator)},
        {"this": images.application},
        {"this": "charts/spoke-operator", "next": chart_of_next_release(tmp_path_factory.mktemp("next"))},
        {"this": texting_chart, "next": texting_chart},
    )
    place.operator("this")
    with installed(cluster, texting_chart, images.application, namespace, "e2e_jobs") as product:
        product.create_tables(e2e_jobs.metadata)
        place.product = product
        yield place
    place.uninstall(OPERATOR)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=crds")
    cluster.remove(namespace)


@pytest.fixture(scope="module")
def next_application(place: Place) -> None:
    """The application's image of the next release is there."""
    place.application_images["next"] = of_next_release(place.cluster, place.application_images["this"])


def of_next_release(cluster: Cluster, image: str) -> str:
    """The image's successor, on the nodes."""
    folder = HERE / "next_release"
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    repository, _, _ = image.rpartition(":")
    name = f"{repository}-next:{hashlib.sha256(content + image.encode()).hexdigest()[:12]}"
    build = ("docker", "build", "--quiet", "--network=none", f"--build-arg=IMAGE={image}", f"--tag={name}", str(folder))
    with exclusive(HEAVY):
        cluster.run(*build, env={"DOCKER_BUILDKIT": "1"})
    cluster.load(name)
    return name


def chart_of_next_release(folder: Path) -> str:
    """The operator's chart. Its SpokeJob has one field more, and its operator sets one variable more."""
    chart = folder / "spoke-operator"
    shutil.copytree(ROOT / "charts/spoke-operator", chart)
    path = chart / "files/spokejobs.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"]["properties"]["ofNextRelease"] = {"type": "string", "maxLength": 10}
    path.write_text(yaml.safe_dump(crd))
    # The admission policy lets the operator set these variables only.
    path = chart / "templates/_admission.tpl"
    first = f"['{environment.VERSION}', "
    policy = path.read_text()
    assert first in policy
    path.write_text(policy.replace(first, f"{first}'SPOKE_OF_NEXT_RELEASE', "))
    return str(chart)


@pytest.fixture(scope="module")
def dispatching(place: Place) -> Iterator[KubernetesRunner]:
    runner = place.product.runner(registry.default)
    yield runner
    runner.close()


@contextmanager
def running(place: Place, runner: KubernetesRunner) -> Iterator[Running]:
    """Jobs that run until the end, and one that waits; then all go on as if nothing had happened."""
    name = uuid.uuid4().hex[:6]
    running = begin(place, runner, name)
    yield running
    open_gate(place.product, name)
    running.end_undisturbed()


def begin(place: Place, runner: KubernetesRunner, gate: str) -> Running:
    """Jobs that run until that gate is open, and one that waits for the first of them."""
    in_queue = JobData("e2e_waits", e2e_jobs.Waits(gate=gate), queue_name=gate, locks_queue=True)
    jobs = [runner.dispatch_job(data) for data in (in_queue, *[JobData("e2e_waits", in_queue.payload)] * 2)]
    pods = [str(place.product.running_pod(job)["metadata"]["uid"]) for job in jobs]
    return Running(place.product, jobs, runner.dispatch_job(in_queue), pods)


def open_gate(product: Product, name: str) -> None:
    """Let the jobs go on that wait for the gate."""
    with product.engine.begin() as connection:
        connection.execute(insert(e2e_jobs.gate).values(name=name))


def works(place: Place, runner: KubernetesRunner, cause: str = "JobError", charged: str = "error") -> None:
    """A job comes to each of the two ends, in ledger and cluster."""
    good, bad = runner.dispatch_job(JobData("e2e_echo", "x")), runner.dispatch_job(JobData("e2e_raise", "x"))
    assert place.product.ended(good).result == "x"
    assert place.product.ended(bad).cause == cause
    assert place.product.spokejob(good, Outcome.SUCCEEDED)
    assert place.product.spokejob(bad, Outcome.FAILED)["status"]["charged"] == {charged: 3}


@pytest.mark.long
def test_the_operator_upgraded_with_jobs_running_and_then_ahead_of_the_application(
    place: Place, dispatching: KubernetesRunner
) -> None:
    with running(place, dispatching):
        place.operator("next")
    crd = place.cluster.get("crd", "spokejobs.jobs.spoke.dev")
    assert crd
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert "ofNextRelease" in schema["properties"]["spec"]["properties"]
    works(place, dispatching)


@pytest.mark.long
@pytest.mark.usefixtures("next_application")
def test_the_application_upgraded_with_jobs_running_and_then_ahead_of_the_operator(
    place: Place, dispatching: KubernetesRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.goes_back(OPERATOR)
    with running(place, dispatching):
        place.application("next")
    assert migration_of(place.product) == NEXT_MIGRATION

    known = kubernetes_runner.spokejob
    monkeypatch.setattr(kubernetes_runner, "spokejob", lambda job, namespace: _with_new_field(known(job, namespace)))
    # The pods' release has a cause that the operator's doesn't know: it is passed on, and counted as infrastructure.
    works(place, dispatching, "JobErrorOfNextRelease", "infrastructure")
    job = dispatching.dispatch_job(JobData("e2e_echo", 1))
    assert "ofNextRelease" not in place.product.spokejob(job)["spec"]
    (pod,) = eventually(lambda: place.product.pods(job) or None, "its pod")
    assert "-next:" in pod["spec"]["containers"][0]["image"]

    monkeypatch.undo()
    with running(place, dispatching):
        place.application("this")
    assert migration_of(place.product) == NEXT_MIGRATION, "tables don't go back"
    works(place, dispatching)


def migration_of(product: Product) -> str:
    with product.engine.connect() as connection:
        return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")))


def _with_new_field(body: Object) -> Object:
    body["spec"]["ofNextRelease"] = "x"
    return body


@pytest.mark.long
def test_uninstalled_and_installed_again_the_operator_finds_its_jobs(
    place: Place, dispatching: KubernetesRunner
) -> None:
    with running(place, dispatching):
        place.uninstall(OPERATOR)
        assert place.cluster.get("crd", "spokejobs.jobs.spoke.dev")
        meanwhile = dispatching.dispatch_job(JobData("e2e_echo", "meanwhile"))
        assert place.product.spokejob(meanwhile)
        place.operator("this")
    assert place.product.ended(meanwhile).result == "meanwhile"
    works(place, dispatching)


@pytest.mark.long
def test_uninstalled_and_installed_again_the_application_loses_nothing(
    place: Place, dispatching: KubernetesRunner
) -> None:
    with running(place, dispatching) as jobs:
        place.uninstall(APPLICATION)
        without_template = dispatching.dispatch_job(JobData("e2e_echo", "meanwhile"))
        eventually(
            lambda: place.product.spokejob(without_template).get("status", {}).get("cause") == "TemplateMissing",
            "its template is missed",
        )
        for job in jobs.jobs:
            assert place.product.spokejob(job)
        place.application("this", database=False)
    assert place.product.ended(without_template).result == "meanwhile"
    works(place, dispatching)
