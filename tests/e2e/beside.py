"""Operator and sync beside the cluster, so that a test has them in its hand; the pods are the cluster's own.

They reach the API server by one proxy, and all of ours (the pods too) the database by another: each can hang or refuse.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, insert, select
from sqlalchemy.engine import make_url
from tests.integration.operator.conftest import OperatorProcess
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Cluster as Namespace
from tests.integration.sync.stage import Stage, SyncProcess
from tests.waiting import WITHIN_SECONDS, eventually, stays

from spoke_jobs import registry
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptState, JobData, JobFilter, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

from . import e2e_jobs
from .conftest import PATIENT, RESTRICTED, Cluster, Object

PLACE = "spoke-jobs/e2e-place"
"""The label of an application's pods; its value is their namespace."""
STOPS = "spoke.test/stops"
"""The taint of the node that tests stop."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at many jobs."""


class KeptUp:
    """The operator, started anew whenever it ends, as its Deployment does."""

    def __init__(self, operator: OperatorProcess, **env: str) -> None:
        self._operator = operator
        self._env = env
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        operator.launch(**env)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(1.0):
            if not self._operator.running:
                self._operator.launch(**self._env)

    def end(self) -> None:
        """Stop it."""
        self._stop.set()
        self._thread.join()
        if self._operator.running:
            self._operator.kill()


@dataclass
class Application:
    """An application: its ledger as the test reaches it at all times, and a runner that dispatches to it."""

    namespace: Namespace
    engine: Engine
    runner: KubernetesRunner
    template: str
    """The PodTemplate of its jobs."""
    sync: SyncProcess
    ledger: SqlLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = SqlLedger(self.engine)

    def dispatch(self, job_type: str, payload: Any, count: int = 1, **more: Any) -> list[JobRequest]:
        """Dispatch so many of a kind."""
        data = JobData(job_type, payload, pod_template=self.template, **more)
        return [self.runner.dispatch_job(data) for _ in range(count)]

    def states(self, jobs: Sequence[JobRequest]) -> Counter[JobState]:
        """How many are in which state."""
        rows = (self.ledger.get(job.id) for job in jobs)
        return Counter(row.state for row in rows if row)

    def nothing_is_given_up(self) -> bool:
        """No job has failed."""
        return not self.ledger.list_jobs(1, JobFilter(states=(JobState.FAILED,)))

    def until_all_run(self, jobs: Sequence[JobRequest], within: float = WITHIN_SECONDS) -> None:
        """Wait until the pods of all have claimed."""
        eventually(
            lambda: self.states(jobs)[JobState.RUNNING] == len(jobs), "all run", within=within, every=_LOOK_EVERY
        )

    def open(self, gate: str) -> None:
        """Have those end that wait for it."""
        with self.engine.begin() as connection:
            connection.execute(insert(e2e_jobs.gate).values(name=gate))

    def all_succeed(self, jobs: Sequence[JobRequest], within: float = WITHIN_SECONDS) -> list[list[str]]:
        """Wait for it, on both sides; gives the causes for which attempts failed before the ones that succeeded."""

        def all_have() -> bool:
            states = self.states(jobs)
            assert not states[JobState.FAILED], states
            return states[JobState.SUCCEEDED] == len(jobs)

        eventually(all_have, "all succeed", within=within, every=_LOOK_EVERY)
        uids = {str(job.uid) for job in jobs}

        def shown() -> bool:
            found = [item for item in self.namespace.all() if item["spec"]["uid"] in uids]
            assert len(found) == len(jobs), "one SpokeJob each"
            said = {(item.get("status", {}).get("outcome"), item["status"].get("ledger")) for item in found}
            return said == {("Succeeded", "Succeeded")}

        eventually(shown, "all SpokeJobs say so", every=_LOOK_EVERY)
        causes = []
        for job in jobs:
            *earlier, last = self.ledger.attempts(job.id)
            assert last.state is AttemptState.SUCCEEDED
            causes.append([item.cause for item in earlier])
        return causes

    def sync_log(self) -> str:
        """What its sync has said; ends it."""
        self.sync.end()
        return self.sync.log

    def effects(self) -> Counter[int]:
        """How many results were committed, by job."""
        with self.engine.connect() as connection:
            return Counter(connection.scalars(select(e2e_jobs.effect.c.job_id)))


class Scene:
    """One test's namespaces, applications and processes."""

    def __init__(self, cluster: Cluster, image: str, folder: Path, stack: ExitStack) -> None:
        self._cluster = cluster
        self._image = image
        self._operator_log = folder / "operator.log"
        self._stack = stack
        self._admin = cluster.env["KUBECONFIG"]
        self.api = Proxy(api_server_of(self._admin))
        stack.callback(self.api.close)
        self.kubeconfig = kubeconfig_by(self.api.port, self._admin, folder / "kubeconfig")

    def namespace(self) -> Namespace:
        """A fresh one, which enforces ``restricted``."""
        made = Namespace(self._admin, f"e2e-beside-{uuid.uuid4().hex[:6]}")
        made.install()
        self._stack.callback(made.close)
        made.core.patch_namespace(made.namespace, {"metadata": {"labels": RESTRICTED}})
        return made

    def operator(self, *namespaces: Namespace, **env: str) -> None:
        """One for these namespaces, with these settings."""
        served = ",".join(item.namespace for item in namespaces)
        operator = KeptUp(OperatorProcess(self.kubeconfig, served, self._operator_log), **env)
        self._stack.callback(lambda: print(self.operator_log()[-20_000:]))
        self._stack.callback(operator.end)

    def operator_log(self) -> str:
        """What it has said."""
        return self._operator_log.read_text()

    def database(self, url: str) -> Proxy:
        """The way to the database, for processes and pods alike."""
        where = make_url(url)
        proxy = Proxy((where.host or "", where.port or 5432), host=address_for_pods(self._cluster))
        self._stack.callback(proxy.close)
        return proxy

    def application(
        self,
        namespace: Namespace,
        url: str,
        by: Proxy,
        template: str = "default",
        *,
        everywhere: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Application:
        """An application with its database, its PodTemplate and its sync.

        :param everywhere: pods may also run on the node that tests stop.
        :param env: more of the pods' environment.
        """
        engine = create_engine(url, connect_args=PATIENT)
        self._stack.callback(engine.dispose)
        e2e_jobs.metadata.create_all(engine)
        reached = make_url(url).set(host=by.host, port=by.port)
        by_proxy = reached.render_as_string(hide_password=False)
        tolerations = [{"key": STOPS, "operator": "Exists"}] if everywhere else []
        variables = {"SPOKE_APP": "e2e_jobs", "SPOKE_DATABASE_URL": by_proxy} | dict(env or {})
        pod_template(self._cluster, namespace.namespace, template, self._image, variables, tolerations)
        settings = Settings(job_runner="kubernetes", database_url=SecretStr(by_proxy), namespace=namespace.namespace)
        runner = KubernetesRunner(settings, registry.default)
        self._stack.callback(runner.close)
        around = Stage(namespace, SqlLedger(engine), by_proxy)
        sync = self._stack.enter_context(around.sync(KUBECONFIG=self.kubeconfig))
        sync.until("active")
        return Application(namespace, engine, runner, template, sync)


@contextmanager
def away(proxy: Proxy, seconds: float, application: Application, every: float = 0.05) -> Iterator[None]:
    """First nothing is answered, meanwhile the block is run; then connections are refused. Nothing is given up."""
    proxy.hang()
    yield
    assert stays(application.nothing_is_given_up, seconds / 2, every)
    proxy.cut()
    assert stays(application.nothing_is_given_up, seconds / 2, every)
    proxy.mend()


def address_for_pods(cluster: Cluster) -> str:
    """This machine's, as the nodes and their pods reach it."""
    template = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    addresses = cluster.run("docker", "network", "inspect", "kind", "--format", template).split()
    return next(address for address in addresses if "." in address)


def pod_template(
    cluster: Cluster,
    namespace: str,
    name: str,
    image: str,
    env: Mapping[str, str],
    tolerations: Sequence[Object],
) -> None:
    """What an application's pods are made by."""
    container = {
        "name": "job",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    body = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": name, "labels": {"jobs.spoke.dev/template": "true"}},
        "template": {
            "metadata": {"labels": {PLACE: namespace}},
            "spec": {
                "containers": [container],
                "terminationGracePeriodSeconds": 5,
                "tolerations": list(tolerations),
            },
        },
    }
    cluster.kubectl("--namespace", namespace, "create", "--filename=-", stdin=json.dumps(body))
