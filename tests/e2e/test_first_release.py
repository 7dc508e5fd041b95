"""The first release, 0.1, upgraded to this one with jobs running, and each of the two beside the other's counterpart.

Its charts, definition and code are those of the repository's history. Let no other tests use the cluster meanwhile: for
a while, the definition of SpokeJobs is the first release's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.exclusive import HEAVY, exclusive
from tests.first_release import unpack
from tests.waiting import eventually, patient

from spoke_jobs import registry
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.job_options import JobOptions
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import DEFINITIONS, HERE, Cluster, Images, Object, installed
from .test_upgrades import APPLICATION, OPERATOR, Place, Running, begin, migration_of, open_gate, running, works

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CODE = (
    "runner/spoke_jobs",
    "operator/spoke_jobs_operator",
    "examples/texting",
    "charts",
    "crds",
    "tests/e2e/e2e_jobs.py",
)
REMEMBERED = ("outcome", "attempt", "cause", "charged", "finishedAt", "ledger")
"""Fields of a status that say how a job has ended."""
OF_AN_ATTEMPT = ("number", "job", "pod", "node", "cause", "exitCode", "startedAt", "finishedAt")


@dataclass(frozen=True)
class FirstRelease:
    """An application of the first release, which dispatches to the place's database. Its sync creates the SpokeJobs."""

    place: Place
    code: Path

    def dispatch(self, job_type: str, payload: object, *options: str) -> JobRequest:
        """Dispatch by the first release's command."""
        command = [sys.executable, "-m", "spoke_jobs", "dispatch", job_type, "--payload", json.dumps(payload), *options]
        environment = {
            "PYTHONPATH": ":".join(str(self.code / path) for path in ("runner", "examples/texting", "tests/e2e")),
            "JOB_RUNNER": "kubernetes",
            "SPOKE_SUBMIT": "sync",
            "SPOKE_APP": "e2e_jobs",
            "SPOKE_NAMESPACE": self.place.namespace,
            "SPOKE_DATABASE_URL": self.place.product.url,
            "SPOKE_TASKS_URL": self.place.product.tasks_url,
            "SPOKE_TASKS_KEY": self.place.product.tasks_key,
        }
        done = subprocess.run(
            command,
            cwd=self.code,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(60),
        )
        assert done.returncode == 0, done.stderr
        return self._row(int(done.stdout.split("\t")[0]))

    def _row(self, job_id: int) -> JobRequest:
        """What this release's tests need of a row that only the first release can read yet."""
        query = text("SELECT uid, job_type FROM job_request WHERE id = :id")
        with self.place.product.engine.connect() as connection:
            uid, job_type = connection.execute(query, {"id": job_id}).one()
        return JobRequest(
            id=job_id,
            uid=uuid.UUID(str(uid)),
            job_type=job_type,
            payload="",
            queue_name="",
            organization_id=None,
            campaign_id=None,
            runner="kubernetes",
            options=JobOptions(),
            created_at=datetime.now(UTC),
            updated_at=datetime.now(UTC),
            state=JobState.WAITING,
        )

    def state(self, job: JobRequest) -> str:
        """The row's state."""
        with self.place.product.engine.connect() as connection:
            return str(connection.scalar(text("SELECT state FROM job_request WHERE id = :id"), {"id": job.id}))

    def ended(self, job: JobRequest) -> str:
        """The row's final state."""
        return eventually(
            lambda: found if (found := self.state(job)) in ("succeeded", "failed") else None,
            f"job {job.id} to end",
            state=lambda: self.place.product.get("spokejobs"),
            within=120,
        )

    def running_pod(self, job: JobRequest) -> Object:
        """The job's pod, once its function has been called."""
        eventually(lambda: self.state(job) == "running", f"job {job.id} runs", within=120)
        (pod,) = self.place.product.pods(job)
        return pod


def of_first_release(cluster: Cluster, image: str, code: Path) -> str:
    """The image with the first release's code, on the nodes."""
    shutil.copy(HERE / "first_release/Dockerfile", code)
    content = b"".join(path.read_bytes() for path in sorted(code.rglob("*")) if path.is_file())
    repository, _, _ = image.rpartition(":")
    name = f"{repository}-first:{hashlib.sha256(content + image.encode()).hexdigest()[:12]}"
    build = ("docker", "build", "--quiet", "--network=none", f"--build-arg=IMAGE={image}", f"--tag={name}", str(code))
    with exclusive(HEAVY):
        cluster.run(*build, env={"DOCKER_BUILDKIT": "1"})
    cluster.load(name)
    return name


def schema(cluster: Cluster) -> Object:
    """The fields of a SpokeJob's spec, as the installed definition has them."""
    definition = cluster.get("crd", "spokejobs.jobs.spoke.dev")
    assert definition
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    found: Object = root["spec"]["properties"]
    return found


@pytest.fixture(scope="module")
def first(
    cluster: Cluster, images: Images, texting_chart: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FirstRelease]:
    """Both charts of the first release, with its definition."""
    namespace = f"e2e-first-release-{uuid.uuid4().hex[:6]}"
    code = unpack(tmp_path_factory.mktemp("first") / "release", *CODE)
    cluster.run("helm", "dependency", "update", "--skip-refresh", str(code / "examples/texting/chart"))
    cluster.namespace(namespace)
    place = Place(
        cluster,
        namespace,
        {"this": images.operator, "first": of_first_release(cluster, images.operator, code)},
        {"this": images.application, "first": of_first_release(cluster, images.application, code)},
        {"this": "charts/spoke-operator", "first": str(code / "charts/spoke-operator")},
        {"this": texting_chart, "first": str(code / "examples/texting/chart")},
    )
    if cluster.get("crd", "spokejobs.jobs.spoke.dev"):  # of this release: other tests have installed it
        with exclusive(DEFINITIONS):
            cluster.kubectl("replace", f"--filename={code / 'crds/spokejobs.yaml'}")
    place.operator("first")
    with installed(
        cluster, place.texting_charts["first"], place.application_images["first"], namespace, "e2e_jobs"
    ) as product:
        product.create_tables(e2e_jobs.metadata)
        place.product = product
        yield FirstRelease(place, code)
    place.uninstall(OPERATOR)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=crds")
    cluster.remove(namespace)


@pytest.fixture(scope="module")
def dispatching(first: FirstRelease) -> Iterator[KubernetesRunner]:
    """A runner of this release. It needs this release's tables."""
    runner = first.place.product.runner(registry.default)
    yield runner
    runner.close()


def remembered(spokejob: Object) -> Object:
    """What both definitions have of the status. This release's adds fields, each with a default."""
    status = spokejob["status"]
    attempts = [{name: item.get(name) for name in OF_AN_ATTEMPT} for item in status["attempts"]]
    return {name: status.get(name) for name in REMEMBERED} | {"attempts": attempts}


def test_charts_definition_and_spokejobs_of_the_first_release_upgraded_with_jobs_running(
    first: FirstRelease, request: pytest.FixtureRequest
) -> None:
    place, product = first.place, first.place.product
    assert "limitKey" not in schema(place.cluster)
    assert migration_of(product) == "0003"
    good, bad = first.dispatch("e2e_echo", "x"), first.dispatch("e2e_raise", "x")
    assert (first.ended(good), first.ended(bad)) == ("succeeded", "failed")
    eventually(
        lambda: [product.spokejob(job)["status"].get("ledger") for job in (good, bad)] == ["Succeeded", "Failed"],
        "the SpokeJobs say so",
    )
    before = {job.id: remembered(product.spokejob(job)) for job in (good, bad)}
    queue = ("--queue", "of-the-first-release", "--locks-queue")
    jobs = [first.dispatch("e2e_waits", {"gate": "first"}, *options) for options in (queue, (), ())]
    pods = [str(first.running_pod(job)["metadata"]["uid"]) for job in jobs]
    waiting = first.dispatch("e2e_waits", {"gate": "first"}, *queue)
    eventually(lambda: product.get("spokejob", name_of(waiting)), "the SpokeJob of the one that waits")

    place.application("this")
    assert migration_of(product) >= "0018"
    dispatching: KubernetesRunner = request.getfixturevalue("dispatching")
    works(place, dispatching)  # beside the first release's operator and definition
    dispatched_meanwhile = first.dispatch("e2e_echo", "by a process of the first release")
    with running(place, dispatching):
        place.operator("this")
    assert "limitKey" in schema(place.cluster)
    assert product.ended(dispatched_meanwhile).result == "by a process of the first release"

    open_gate(product, "first")
    Running(product, jobs, waiting, pods).end_undisturbed()
    works(place, dispatching)
    assert {job.id: remembered(product.spokejob(job)) for job in (good, bad)} == before
    assert product.spokejob(bad, Outcome.FAILED)["status"]["charged"] == {"error": 3}


def test_the_operator_of_the_first_release_behind_an_application_of_this_one(
    first: FirstRelease, dispatching: KubernetesRunner
) -> None:
    """Rolled back with jobs running, and upgraded again."""
    with running(first.place, dispatching):
        first.place.goes_back(OPERATOR)
    assert "limitKey" not in schema(first.place.cluster)
    works(first.place, dispatching)
    with running(first.place, dispatching):
        first.place.operator("this")
    works(first.place, dispatching)


def test_an_application_of_the_first_release_behind_the_operator_of_this_one(
    first: FirstRelease, dispatching: KubernetesRunner
) -> None:
    """Rolled back: what has a pod goes on, what has none waits as docs/upgrading.md says, until policies only warn."""
    place, product = first.place, first.place.product
    jobs = begin(place, dispatching, "rolled-back")
    place.goes_back(APPLICATION)
    assert migration_of(product) >= "0018", "tables don't go back"
    open_gate(product, "rolled-back")
    jobs.pods_end_undisturbed()
    new = first.dispatch("e2e_echo", "waits")

    def is_refused(job: JobRequest) -> bool:
        found = product.get("spokejob", name_of(job))
        return bool(found) and found.get("status", {}).get("cause") == "PodRejected"

    for job in (jobs.waiting, new):
        state = partial(product.get, "spokejob", name_of(job))
        eventually(partial(is_refused, job), f"the pod of job {job.id} is refused", within=120, state=state)
    place.operator("this", admissionPolicies={"validationActions": ["Warn", "Audit"]})
    assert [first.ended(job) for job in (jobs.waiting, new)] == ["succeeded", "succeeded"]
    good, bad = first.dispatch("e2e_echo", "x"), first.dispatch("e2e_raise", "x")
    assert (first.ended(good), first.ended(bad)) == ("succeeded", "failed")
    assert product.spokejob(bad, Outcome.FAILED)["status"]["charged"] == {"error": 3}
    (pod, *_) = eventually(lambda: product.pods(bad) or None, "a failed pod is kept")
    assert "-first:" in pod["spec"]["containers"][0]["image"]
    place.application("this")
    works(place, dispatching)
