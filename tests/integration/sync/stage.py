"""A namespace on the real cluster, a ledger on the real database, and the processes between them.

There is no operator: a test writes what an operator would write into a SpokeJob's status.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from pydantic import SecretStr
from tests.leftovers import namespace_metadata
from tests.ports import free_port
from tests.preloaded import Program
from tests.waiting import WITHIN_SECONDS, eventually, patient

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

ROOT = Path(__file__).parents[3]
CLUSTER = os.environ.get("SPOKE_TEST_CLUSTER", "spoke-test")
FAILPOINT = Path(__file__).with_name("failpoint.py")
GROUP, VERSION, PLURAL = "jobs.spoke.dev", "v1", "spokejobs"
Body = dict[str, Any]


def find_kubeconfig() -> str:
    """The test cluster's kubeconfig. :raises AssertionError: if there is no test cluster."""
    if given := os.environ.get("SPOKE_TEST_KUBECONFIG"):
        return given
    script = f'eval "$(tests/cluster/env {CLUSTER})" && printf %s "$KUBECONFIG"'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"no test cluster; `tests/cluster/up {CLUSTER}` makes one: {done.stderr}"
    return done.stdout


class Cluster:
    """The SpokeJobs of one namespace, as an operator or a person deals with them."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.api = kubernetes.config.new_client_from_config(kubeconfig)
        self.custom = kubernetes.client.CustomObjectsApi(self.api)
        self.core = kubernetes.client.CoreV1Api(self.api)

    def install(self) -> None:
        """See to it that the API server knows SpokeJobs as this source has them, and make the namespace."""
        extensions = kubernetes.client.ApiextensionsV1Api(self.api)
        crd = yaml.safe_load((ROOT / "crds" / "spokejobs.yaml").read_text())
        name = crd["metadata"]["name"]
        names = [item.metadata.name for item in extensions.list_custom_resource_definition().items]
        if name not in names:
            try:
                extensions.create_custom_resource_definition(crd)
            except kubernetes.client.ApiException as error:
                if error.status != 409:
                    raise
        self.core.create_namespace({"metadata": namespace_metadata(self.namespace)})
        eventually(self._served, "SpokeJobs are served")

    def _served(self) -> bool:
        try:
            return self.all() == []
        except kubernetes.client.ApiException:
            return False

    def all(self) -> list[Body]:
        """Every SpokeJob."""
        found = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL)
        items: list[Body] = found["items"]
        return items

    def get(self, job: JobRequest) -> Body | None:
        """The job's SpokeJob."""
        try:
            body: Body = self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name_of(job))
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return body

    def status(self, job: JobRequest) -> Body:
        """The job's SpokeJob's status; empty if there is none."""
        status: Body = (self.get(job) or {}).get("status", {})
        return status

    def create(self, body: Body) -> Body:
        """Create a SpokeJob."""
        made: Body = self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)
        return made

    def delete(self, job: JobRequest) -> None:
        """Delete the job's SpokeJob."""
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name_of(job))

    def report(self, job: JobRequest, **status: Any) -> None:
        """Write into the status what an operator would, as the field manager that it is."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "SpokeJob",
            "metadata": {"name": name_of(job), "namespace": self.namespace},
            "status": status,
        }
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}/{name_of(job)}/status"
        query = [("fieldManager", "spoke-operator"), ("force", "true")]
        _, url, headers, sent, _ = self.api.param_serialize(
            "PATCH",
            path,
            query_params=query,
            header_params={"Content-Type": "application/apply-patch+yaml"},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self.api.call_api("PATCH", url, headers, sent)
        assert response.status == 200, response.read()

    def close(self) -> None:
        """Delete the namespace and let go of the connections."""
        self.core.delete_namespace(self.namespace)
        self.api.rest_client.close()


@dataclass
class Stage:
    """One test's namespace and ledger."""

    cluster: Cluster
    ledger: SqlLedger
    url: str
    registry: Registry = field(default_factory=Registry)
    _runners: list[KubernetesRunner] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry.job("work")(lambda _ctx, _payload: None)

    def settings(self, **changes: Any) -> Settings:
        """The settings of a runner here."""
        values = {"database_url": SecretStr(self.url), "namespace": self.cluster.namespace} | changes
        return Settings(job_runner="kubernetes", **values)

    def runner(self, **changes: Any) -> KubernetesRunner:
        """A runner in this process."""
        made = KubernetesRunner(self.settings(**changes), self.registry)
        self._runners.append(made)
        return made

    @contextmanager
    def sync(self, **environment: str) -> Iterator[SyncProcess]:
        """A real ``spoke-jobs sync``, in its own process, ended by SIGTERM; with FAILPOINT, see ``failpoint``."""
        process = SyncProcess(self, environment)
        try:
            # It may come to its failpoint before anybody has asked it anything.
            eventually(lambda: process.stands_still or process.health(), "sync answers to a probe")
            yield process
        finally:
            process.end()

    def row(self, job: JobRequest) -> JobRequest:
        """The job's row."""
        found = self.ledger.get(job.id)
        assert found is not None
        return found

    def until(
        self,
        job: JobRequest,
        wanted: Callable[[JobRequest], Any],
        within: float = WITHIN_SECONDS,
        *,
        promised: bool = False,
    ) -> JobRequest:
        """The job's row once it is as wanted."""
        return eventually(
            lambda: row if wanted(row := self.row(job)) else None, f"row {job.id} as wanted", within, promised=promised
        )

    def claim(self, job: JobRequest, number: int = 1, lease_seconds: float = 60.0) -> Claim:
        """Claim an attempt, as its pod does."""
        claim = self.ledger.claim(job.id, job.uid, job.run, number, f"pod-{number}", lease_seconds)
        assert isinstance(claim, Claim), claim
        return claim

    def can_claim(self, job: JobRequest, number: int) -> bool:
        """Claim an attempt, if it isn't refused."""
        return isinstance(self.ledger.claim(job.id, job.uid, job.run, number, f"pod-{number}", 60.0), Claim)

    def close(self) -> None:
        """Close the runners."""
        for runner in self._runners:
            runner.close()


class SyncProcess:
    """A ``spoke-jobs sync``."""

    def __init__(self, stage: Stage, environment: dict[str, str]) -> None:
        env = os.environ | {
            "KUBECONFIG": stage.cluster.kubeconfig,
            "SPOKE_DATABASE_URL": stage.url,
            "SPOKE_NAMESPACE": stage.cluster.namespace,
        }
        self.port = free_port()
        program = [str(FAILPOINT)] if "FAILPOINT" in environment else ["-m", "spoke_jobs"]
        self.process = Program(
            "sync",
            [*program, "sync", "--health-port", str(self.port)],
            env=env | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""

    def health(self) -> Body | None:
        """What it answers to a probe; None if it doesn't answer."""
        try:
            # Asked again: the process may have come to its failpoint, where it answers nothing.
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as response:
                answer: Body = json.load(response)
        except OSError:
            return None
        return answer

    def metrics(self) -> dict[str, float]:
        """Its metrics, by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=patient(30)) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def until(self, role: str) -> None:
        """Wait until it says that it is in that role."""
        eventually(lambda: (self.health() or {}).get("role") == role, f"sync is {role}")

    def end(self) -> float:
        """End it by SIGTERM; gives the seconds that it took. :raises AssertionError: if it doesn't exit with 0."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
        _, rest = self.process.communicate(timeout=patient(60))
        self.log += rest
        assert self.process.returncode == 0, self.log
        return time.monotonic() - began

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.died()
        self.process.returncode = 0

    def died(self) -> int:
        """Wait for its end; gives the exit code."""
        _, rest = self.process.communicate(timeout=patient(30))
        self.log += rest
        return self.process.returncode

    def until_stopped(self) -> None:
        """Wait until it has come to its failpoint."""
        eventually(lambda: self.stands_still, "sync has come to its failpoint")

    @property
    def stands_still(self) -> bool:
        """Whether it is stopped, at its failpoint."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Let it go on from its failpoint."""
        self.process.send_signal(signal.SIGCONT)


def attempt(number: int = 1, **record: Any) -> Body:
    """An operator's record of an attempt."""
    return {"number": number, "job": f"work-{number}", "startedAt": "2026-03-01T12:00:00Z"} | record


def ended(number: int = 1, cause: str = "PodDeleted", **record: Any) -> Body:
    """The same, over."""
    return attempt(number, finishedAt="2026-03-01T12:01:00Z", cause=cause, **record)


def namespace_name() -> str:
    """A fresh one."""
    return f"sync-{uuid.uuid4().hex[:8]}"
