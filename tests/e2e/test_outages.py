"""API server or PostgreSQL away for everything of ours at once: application, sync, operator, pods. All end right, once.

Operator and sync run beside the cluster, so that what they ask passes by a proxy that can hang or refuse; the pods are
the cluster's own, and reach the database by another. The series has outages of a minute, the plain suite short ones.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, insert, select
from sqlalchemy.engine import make_url
from tests.integration.operator.conftest import OperatorProcess
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Cluster as Namespace
from tests.integration.sync.stage import Stage, stays

from spoke_jobs import registry
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.model import AttemptState, JobData, JobRequest, JobState
from spoke_jobs.runners.kubernetes import KubernetesRunner
from spoke_jobs.settings import Settings

from . import e2e_jobs
from .conftest import Cluster, Images, wait_for

OUTAGES = pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.long)])
"""Of it, the first half nothing is answered, and in the second half connections are refused."""


class KeptUp:
    """The operator, started anew whenever it ends, as its Deployment does."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        operator.start()
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(1.0):
            if not self._operator.running:
                self._operator.launch()

    def end(self) -> None:
        """Stop it."""
        self._stop.set()
        self._thread.join()
        if self._operator.running:
            self._operator.kill()


@dataclass
class Scene:
    """All that has a part in it."""

    namespace: Namespace
    engine: Engine
    """The database as the test reaches it: at all times."""
    runner: KubernetesRunner
    api: Proxy
    database: Proxy
    ledger: SqlLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = SqlLedger(self.engine)

    def dispatch(self, count: int, gate: str | None = None) -> list[JobRequest]:
        """Dispatch jobs that wait for the gate, for the database to be away (no gate), or are quick (None)."""
        data = JobData("e2e_slow", e2e_jobs.Slow(seconds=0.5))
        if gate is not None:
            data = JobData("e2e_waits", e2e_jobs.Waits(gate=gate))
        return [self.runner.dispatch_job(data) for _ in range(count)]

    def open(self, gate: str) -> None:
        """Have those end that wait for it."""
        with self.engine.begin() as connection:
            connection.execute(insert(e2e_jobs.gate).values(name=gate))

    def states(self, jobs: Sequence[JobRequest]) -> Counter[JobState]:
        """How many are in which state."""
        rows = (self.ledger.get(job.id) for job in jobs)
        return Counter(row.state for row in rows if row)

    def until_all_run(self, jobs: list[JobRequest]) -> None:
        """Wait until the pods of all have claimed."""
        wait_for("all run", lambda: self.states(jobs)[JobState.RUNNING] == len(jobs), 180)

    @contextmanager
    def away(self, proxy: Proxy, seconds: float) -> Iterator[None]:
        """It is away; meanwhile the block is run, and nothing is given up."""
        proxy.hang()
        yield
        assert stays(lambda: JobState.FAILED not in self.states(self.ledger.list_jobs(100)), seconds / 2)
        proxy.cut()
        assert stays(lambda: JobState.FAILED not in self.states(self.ledger.list_jobs(100)), seconds / 2)
        proxy.mend()

    def all_end_right_and_once(self, jobs: list[JobRequest]) -> list[list[str]]:
        """Wait for it; gives the causes for which their attempts failed before the one that succeeded."""
        wait_for("all succeed", lambda: self.states(jobs)[JobState.SUCCEEDED] == len(jobs), 240)
        with self.engine.connect() as connection:
            effects = Counter(connection.scalars(select(e2e_jobs.effect.c.job_id)))
        assert effects == {job.id: 1 for job in jobs}, "one result each"

        def shown() -> list[Any] | None:
            items = self.namespace.all()
            status = [item.get("status", {}) for item in items]
            done = all((item.get("outcome"), item.get("ledger")) == ("Succeeded", "Succeeded") for item in status)
            return items if done else None

        spokejobs = wait_for("all SpokeJobs say so", shown, 60)
        assert sorted(item["spec"]["uid"] for item in spokejobs) == sorted(str(job.uid) for job in jobs), "one each"
        causes = []
        for job in jobs:
            *earlier, last = self.ledger.attempts(job.id)
            assert last.state is AttemptState.SUCCEEDED
            causes.append([item.cause for item in earlier])
        return causes


@pytest.fixture
def scene(
    cluster: Cluster, images: Images, postgres_ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    admin = cluster.env["KUBECONFIG"]
    namespace = Namespace(admin, f"e2e-outages-{uuid.uuid4().hex[:6]}")
    with ExitStack() as stack:
        namespace.install()
        stack.callback(namespace.close)
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "spoke-jobs/e2e": "true"}
        namespace.core.patch_namespace(namespace.namespace, {"metadata": {"labels": labels}})

        url = make_url(postgres_ledger_url)
        engine = create_engine(url)
        stack.callback(engine.dispose)
        e2e_jobs.metadata.create_all(engine)
        database = Proxy((url.host or "", url.port or 5432), host=address_for_pods(cluster))
        api = Proxy(api_server_of(admin))
        stack.callback(database.close)
        stack.callback(api.close)
        by_proxy = url.set(host=database.host, port=database.port).render_as_string(hide_password=False)
        pod_template(cluster, namespace.namespace, images.application, by_proxy)

        kubeconfig = kubeconfig_by(api.port, admin, tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
        operator = KeptUp(OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "operator.log"))
        stack.callback(operator.end)
        settings = Settings(job_runner="kubernetes", database_url=SecretStr(by_proxy), namespace=namespace.namespace)
        runner = KubernetesRunner(settings, registry.default)
        stack.callback(runner.close)
        around = Stage(namespace, SqlLedger(engine), by_proxy)
        sync = stack.enter_context(around.sync(KUBECONFIG=kubeconfig))
        sync.until("active")
        yield Scene(namespace, engine, runner, api, database)
        api.mend()
        database.mend()


def address_for_pods(cluster: Cluster) -> str:
    """This machine's, as the nodes and their pods reach it."""
    template = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    addresses = cluster.run("docker", "network", "inspect", "kind", "--format", template).split()
    return next(address for address in addresses if "." in address)


def pod_template(cluster: Cluster, namespace: str, image: str, url: str) -> None:
    """What the jobs' pods are made by."""
    names = {"SPOKE_APP": "e2e_jobs", "SPOKE_DATABASE_URL": url}
    container = {
        "name": "job",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": name, "value": value} for name, value in names.items()],
    }
    body = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "default", "labels": {"jobs.spoke.dev/template": "true"}},
        "template": {"spec": {"containers": [container], "terminationGracePeriodSeconds": 5}},
    }
    cluster.kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(body))


@OUTAGES
def test_the_api_server_away_while_20_are_dispatched_and_10_run(scene: Scene, seconds: int) -> None:
    """Of the 10, 5 end meanwhile."""
    end_meanwhile, run_on = scene.dispatch(5, gate="meanwhile"), scene.dispatch(5, gate="afterwards")
    scene.until_all_run([*end_meanwhile, *run_on])
    with scene.away(scene.api, seconds):
        dispatched = scene.dispatch(20)
        scene.open("meanwhile")
    assert scene.states(end_meanwhile) == {JobState.SUCCEEDED: 5}, "their pods ask nothing of it"
    scene.open("afterwards")
    causes = scene.all_end_right_and_once([*end_meanwhile, *run_on, *dispatched])
    assert causes == [[]] * 30, "no attempt is lost for it"


@OUTAGES
def test_postgresql_away_while_10_run_and_5_finish(scene: Scene, seconds: int) -> None:
    finish, run_on = scene.dispatch(5, gate=""), scene.dispatch(5, gate="afterwards")
    scene.until_all_run([*finish, *run_on])
    with scene.away(scene.database, seconds):
        pass
    scene.open("afterwards")
    causes = scene.all_end_right_and_once([*finish, *run_on])
    print(causes)
    assert {cause for item in causes for cause in item} <= {"DatabaseUnreachable", "WorkerLost"}
