"""Two operators and a Lease, on a real API server: leaders that are told to stop, killed, and frozen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.operator.conftest import (
    GROUP,
    PLURAL,
    VERSION,
    Cluster,
    Object,
    OperatorProcess,
    limited_kubeconfig,
)
from tests.waiting import eventually

FAILPOINT = (str(Path(__file__).with_name("failpoint.py")),)
SHORT = {
    "SPOKE_OPERATOR_LEASE_SECONDS": "3",
    "SPOKE_OPERATOR_LEASE_RENEW_WITHIN_SECONDS": "2",
    "SPOKE_OPERATOR_LEASE_RETRY_SECONDS": "0.5",
    "SPOKE_OPERATOR_JOB_RETENTION_SECONDS": "0",
}


class Replicas:
    """Operators of one namespace, by name."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._kubeconfig = limited_kubeconfig(cluster, folder)
        self._folder = folder
        self.all: dict[str, OperatorProcess] = {}

    def launch(self, name: str, *script: str, **env: str) -> OperatorProcess:
        namespace = self._cluster.namespace
        log = self._folder / f"{name}.log"
        more = {"script": script} if script else {}
        process = OperatorProcess(self._kubeconfig, namespace, log, **more)
        self.all[name] = process
        process.launch(SPOKE_OPERATOR_LEASE=f"{namespace}/spoke-operator", SPOKE_OPERATOR_IDENTITY=name, **env)
        return process

    def leader(self, name: str, *script: str, **env: str) -> OperatorProcess:
        process = self.launch(name, *script, **env)
        eventually(lambda: process.said("ready"), f"{name} leads")
        return process

    def standby(self, name: str, leader: str, **env: str) -> OperatorProcess:
        process = self.launch(name, **env)
        eventually(lambda: process.said(f"standing by: {leader} leads"), f"{name} stands by")
        return process


@contextmanager
def replicas_of(cluster: Cluster, folder: Path) -> Iterator[Replicas]:
    replicas = Replicas(cluster, folder)
    try:
        yield replicas
    finally:
        for name, process in replicas.all.items():
            if process.running:
                process.kill()
            print(name, (folder / f"{name}.log").read_text())


def complaints(process: OperatorProcess) -> list[str]:
    return [line["message"] for line in process.logged() if line["level"] not in ("info", "debug")]


def object_of(cluster: Cluster, name: str) -> Object:
    body: Object = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, name)
    return body


@pytest.mark.alone
def test_the_lead_is_handed_over_on_sigterm_and_taken_from_one_that_is_killed(apart: Cluster, tmp_path: Path) -> None:
    """With the Lease's terms as they are by default: 15, 10 and 2 s."""
    apart.template("waits", "wait,0")
    with replicas_of(apart, tmp_path) as replicas:
        one = replicas.leader("one")
        two = replicas.standby("two", "one", SPOKE_OPERATOR_JOB_RETENTION_SECONDS="0")
        name = apart.submit("waits")
        apart.until(name, lambda status: status.get("outcome") == "Running")
        eventually(lambda: two.metric("spoke_operator_events_total") >= 3, "two has heard of it, too")
        assert two.metric("spoke_operator_writes_total") == 0, "a standby writes nothing"
        assert two.get("/readyz") == "ready\n", "or a rollout would wait for it for ever"
        assert (one.metric("spoke_operator_leads"), two.metric("spoke_operator_leads")) == (1, 0)

        told_at = time.monotonic()
        assert one.stop() == 0
        eventually(lambda: two.said("ready"), "two leads")
        print(f"handed over after {time.monotonic() - told_at:.1f} s")
        assert time.monotonic() - told_at < 12, "before the Lease would have lapsed"
        assert two.metric("spoke_operator_writes_total") == 0, "all is as it should be"

        one = replicas.standby("one", "two")
        killed_at = time.monotonic()
        two.kill()
        apart.core.delete_namespaced_pod(apart.pod_of(name, 1), apart.namespace, grace_period_seconds=0)
        apart.until(name, lambda status: status["attempts"][0]["cause"] == "PodDeleted")
        print(f"taken over after {time.monotonic() - killed_at:.1f} s")
        assert time.monotonic() - killed_at < 30, "soon after the Lease has lapsed"
        assert apart.until_final(name)["outcome"] == "Succeeded"
        assert one.metric("spoke_operator_jobs_adopted_total") == 0, "nothing was made twice"
        assert complaints(one) == []


@pytest.mark.alone
def test_what_a_leader_frozen_past_its_lease_had_in_flight_does_no_harm(apart: Cluster, tmp_path: Path) -> None:
    """It is frozen right before a write of each kind; another takes over and goes on; then those writes arrive."""
    apart.template("succeeds", "0")
    with replicas_of(apart, tmp_path) as replicas:
        earlier = replicas.leader("earlier", SPOKE_OPERATOR_JOB_RETENTION_SECONDS="3600")
        has_job, has_ended = (apart.submit("succeeds", ttlSecondsAfterFinished=0) for _ in range(2))
        for name in (has_job, has_ended):
            apart.until_final(name)
        assert earlier.stop() == 0
        apart.apply_as_sync(has_ended, {"ledger": "Succeeded"})
        to_start, to_create = apart.submit("succeeds"), apart.submit("succeeds")
        wanted = f"job_create={to_create} status={to_start}/status job_delete={has_job}-1 spokejob_delete={has_ended}"
        one = replicas.launch("one", *FAILPOINT, FAILPOINT=f"freeze {wanted}", **SHORT)
        eventually(lambda: one.frozen, "one is frozen")

        two = replicas.standby("two", "one", SPOKE_OPERATOR_JOB_RETENTION_SECONDS="0")
        apart.kubectl("patch", "spokejob", to_create, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
        apart.until(to_create, lambda status: status.get("cause") == "Suspended")
        apart.until_final(to_start)
        eventually(lambda: not apart.batch.list_namespaced_job(apart.namespace).items, "no Jobs are left")
        eventually(
            lambda: has_ended not in [item["metadata"]["name"] for item in apart.spokejobs()],
            "its time to live is over",
        )
        assert two.metric("spoke_operator_jobs_adopted_total") == 1, "the Job whose status wasn't written"
        uid = make_another_s_job(apart, f"{has_job}-1")
        put_again(apart, has_ended)
        before = {name: object_of(apart, name)["metadata"] for name in (to_start, has_ended)}

        one.thaw()
        assert one.wait() == 1
        answers = {line["write"]: line["answer"] for line in one.logged() if line["message"] == "in flight"}
        assert answers == {"job_create": 200, "status": 409, "job_delete": 409, "spokejob_delete": 409}
        of_writes = (
            "not written, since this replica no longer leads",
            "could not write the ConfigMap spoke-operator-state",
        )
        assert [line for line in complaints(one) if not line.startswith(of_writes)] == [
            "this replica no longer leads: the Lease could not be renewed in time"
        ]
        assert apart.until_final(to_create)["outcome"] == "Succeeded"
        assert two.metric("spoke_operator_jobs_adopted_total") == 2
        for name, metadata in before.items():
            now = object_of(apart, name)["metadata"]
            assert (now["uid"], now["resourceVersion"]) == (metadata["uid"], metadata["resourceVersion"])
        job = apart.batch.read_namespaced_job(f"{has_job}-1", apart.namespace)
        assert (job.metadata.uid, job.metadata.deletion_timestamp) == (uid, None)
        assert two.stop() == 0


def make_another_s_job(cluster: Cluster, name: str) -> str:
    """A Job of this name that has nothing to do with any SpokeJob; gives its uid."""
    pod = {"containers": [{"name": "job", "image": cluster.image}], "restartPolicy": "Never"}
    body = {"metadata": {"name": name}, "spec": {"suspend": True, "template": {"spec": pod}}}
    uid: str = cluster.batch.create_namespaced_job(cluster.namespace, body).metadata.uid
    return uid


def put_again(cluster: Cluster, name: str) -> None:
    """A SpokeJob of this name, which is another one; it has no template, and is seen to be without."""
    spec = {"uid": str(uuid.uuid4()), "requestId": 1, "jobType": "standin", "podTemplate": "none"}
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SpokeJob", "metadata": {"name": name}, "spec": spec}
    cluster.custom.create_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, body)
    cluster.until(name, lambda status: status.get("cause") == "TemplateMissing")
