"""What a cluster goes through within a month, at its real length: all jobs succeed, and none is charged.

Some of these tests disturb everything that runs on the cluster. Let no other tests use it meanwhile.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from tests.exclusive import exclusive
from tests.waiting import eventually, patient, stays

from spoke_jobs import registry
from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.causes import cause_class
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobData, JobRequest, JobState

from . import e2e_jobs
from .beside import PLACE, Application, Scene, away
from .conftest import CLUSTER, NODE_THAT_STOPS, PATIENT, Cluster, Images, Object, Product, image_values, installed

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

TEN_MINUTES = 600
NOT_CHARGED = {CauseClass.DISRUPTION.value, CauseClass.DEPENDENCY.value}
LEASE = {"SPOKE_LEASE_SECONDS": "90"}
"""Longer than by default: a busy machine must not make a lease lapse, which is charged."""
LIMIT = 20
"""How many attempts run at a time where jobs are to be queued."""


def one_result_each(
    application: Application, jobs: Sequence[JobRequest], seconds: float
) -> tuple[Counter[str], Counter[str]]:
    """All succeed within these seconds, and none is charged.

    Gives the causes of the attempts that had begun in the ledger, and the classes of all attempts that failed.
    """
    began = time.monotonic()
    causes = Counter(cause or "" for item in application.all_succeed(jobs, seconds) for cause in item)
    statuses = [item["status"] for item in application.namespace.all()]
    charged = Counter[str]()
    for status in statuses:
        charged.update(status.get("charged", {}))
    print(f"{len(jobs)} succeeded {time.monotonic() - began:.0f} s after the end; causes {causes}, counted {charged}")
    assert len(statuses) == len(jobs)
    assert set(charged) <= NOT_CHARGED
    assert {cause_class(cause).value for cause in causes} <= NOT_CHARGED
    assert application.effects() == {job.id: 1 for job in jobs}
    return causes, charged


def test_each_worker_is_drained_in_turn(beside: Scene, cluster: Cluster, postgres_ledger_url: str) -> None:
    namespace = beside.namespace()
    beside.operator(namespace)
    database = beside.database(postgres_ledger_url)
    application = beside.application(namespace, postgres_ledger_url, database, everywhere=True, env=LEASE)
    jobs = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=100), 30)

    def all_run_or_have_ended() -> bool:
        ended = application.states(jobs)[JobState.SUCCEEDED]
        return len(running_on(cluster, namespace.namespace)) + ended >= len(jobs)

    eventually(all_run_or_have_ended, "all have started", within=300, every=1)
    drained = 0
    for node in (f"{CLUSTER}-worker", NODE_THAT_STOPS):
        with drained_node(cluster, node, namespace.namespace) as there:
            assert there, f"no job ran on {node}"
            drained += there
            eventually(all_run_or_have_ended, "the others take its jobs over", within=300, every=1)
    causes, counted = one_result_each(application, jobs, 600)
    print(f"{drained} pods were evicted")
    assert set(causes) == {"Drained"}
    assert counted[CauseClass.DISRUPTION.value] >= drained, "each eviction ended an attempt"


def running_on(cluster: Cluster, place: str, node: str = "") -> list[str]:
    """The pods of a place's jobs that run, on that node or on any, and are not asked to stop."""
    where = ["--field-selector", f"spec.nodeName={node}"] if node else []
    found = cluster.get("pods", "--namespace", place, "--selector", f"{PLACE}={place}", *where)
    return [
        pod["metadata"]["name"]
        for pod in (found or {"items": []})["items"]
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


@contextmanager
def drained_node(cluster: Cluster, node: str, place: str) -> Iterator[int]:
    """Drain a node of a place's pods, and have nothing new land there. Gives how many ran there."""
    there = len(running_on(cluster, place, node))
    options = (
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        f"--pod-selector={PLACE}={place}",
        f"--timeout={patient(300):.0f}s",
    )
    with exclusive(NODE_THAT_STOPS):
        try:
            cluster.kubectl("drain", node, *options)
            yield there
        finally:
            cluster.kubectl("uncordon", node)


def test_postgresql_away_for_ten_minutes(beside: Scene, postgres_ledger_url: str) -> None:
    """The half of them in which it does not answer, then the half in which it refuses connections."""
    namespace, database = beside.namespace(), beside.database(postgres_ledger_url)
    beside.operator(namespace, SPOKE_OPERATOR_MAX_RUNNING=str(LIMIT))
    application = beside.application(namespace, postgres_ledger_url, database, env=LEASE)
    running = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"), LIMIT)
    application.until_all_run(running, 600)
    queued = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=1), 2 * LIMIT)
    eventually(lambda: len(namespace.all()) == 3 * LIMIT, "all have a SpokeJob", every=1)
    assert application.states(queued) == {JobState.WAITING: len(queued)}
    ids = {job.id for job in queued}

    def a_queued_one_says_why_it_waits() -> bool:
        waiting = [item for item in namespace.all() if item["spec"]["requestId"] in ids]
        return any(item.get("status", {}).get("cause") == WaitReason.DATABASE_AWAY for item in waiting)

    with away(database, TEN_MINUTES, application, every=5):
        # The running ones end once their leases have lapsed.
        eventually(a_queued_one_says_why_it_waits, "a queued job waits for the database", within=120, every=1)
    application.open("afterwards")
    causes, _ = one_result_each(application, [*running, *queued], 600)
    assert set(causes) <= {"DatabaseUnreachable"}


@pytest.fixture(scope="module")
def product(cluster: Cluster, images: Images, texting_chart: str) -> Iterator[Product]:
    """Both charts in a namespace, with a limit, and pods whose leases don't lapse on a busy machine."""
    namespace = f"e2e-maintenance-{uuid.uuid4().hex[:6]}"
    cluster.namespace(namespace)
    operator = {"image": image_values(images.operator), "watchNamespaces": [namespace]}
    cluster.install("operator", "charts/spoke-operator", namespace, operator | {"operator": {"maxRunning": LIMIT}})
    env = [{"name": name, "value": value} for name, value in LEASE.items()]
    pods = {"env": env, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    with installed(cluster, texting_chart, images.application, namespace, "e2e_jobs", pods=pods) as product:
        product.create_tables(e2e_jobs.metadata)
        yield product
    cluster.remove(namespace)


def test_sync_at_no_replica_and_back(product: Product) -> None:
    """Jobs run without it. What only the cluster knows comes to the ledger when it is back."""
    runner = product.runner(registry.default)
    product.kubectl("scale", "deployment/texting-sync", "--replicas=0")
    sync = "--selector=app.kubernetes.io/component=sync"
    eventually(lambda: not (product.get("pods", sync) or {"items": []})["items"], "no sync runs")
    jobs = [runner.dispatch_job(slow(1)) for _ in range(5)]
    deleted = runner.dispatch_job(slow(20))
    product.kubectl("delete", "pod", product.running_pod(deleted, 120)["metadata"]["name"])
    for job in jobs:
        assert product.ended(job, 120).state is JobState.SUCCEEDED
        assert "ledger" not in product.spokejob(job, "Succeeded")["status"]
    product.kubectl("scale", "deployment/texting-sync", "--replicas=1")
    for job in [*jobs, deleted]:
        assert product.ended(job, 120).state is JobState.SUCCEEDED
        spokejob = product.spokejob(job, "Succeeded")
        causes = [item["cause"] for item in spokejob["status"]["attempts"]]
        assert causes == ([""] if job != deleted else ["PodDeleted", ""])
    eventually(lambda: shown_states(product) == {"Succeeded"}, "the ledger's states are shown")
    runner.close()


def test_the_password_rotated_wrongly_for_ten_minutes(product: Product) -> None:
    """The database has a new password, and the Secret neither that one nor the old one. Connections are ended, too."""
    runner = product.runner(registry.default)
    jobs = [runner.dispatch_job(slow(60)) for _ in range(LIMIT // 2)]
    jobs += [runner.dispatch_job(slow(200)) for _ in range(LIMIT // 2)]
    eventually(lambda: states(product.ledger, jobs)[JobState.WAITING] == 0, "all have started", within=300, every=1)
    jobs += [runner.dispatch_job(slow(1)) for _ in range(2 * LIMIT)]
    runner.close()
    uids = {str(job.uid) for job in jobs}
    eventually(lambda: uids <= {item["spec"]["uid"] for item in spokejobs(product)}, "all have a SpokeJob", every=1)

    new = secrets.token_urlsafe(16)
    began = time.monotonic()
    with product.engine.begin() as connection:
        connection.execute(text(f"ALTER ROLE {make_url(product.url).username} PASSWORD '{new}'"))
    product.engine.dispose()
    url = make_url(product.url).set(password=new)
    engine = create_engine(url, connect_args=PATIENT)
    ledger = SqlLedger(engine)
    rotate(product, "mistyped")
    with pytest.raises(OperationalError, match="authentication failed"):
        product.engine.connect()

    def none_fails() -> bool:
        return states(ledger, jobs)[JobState.FAILED] == 0

    assert stays(none_fails, 150, every=5)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :user AND pid <> pg_backend_pid()"
    with engine.begin() as connection:
        connection.execute(text(others), {"user": url.username})
    assert stays(none_fails, TEN_MINUTES - (time.monotonic() - began), every=5)

    rotate(product, new)
    returned = time.monotonic()
    eventually(lambda: states(ledger, jobs)[JobState.SUCCEEDED] == len(jobs), "all succeed", within=900, every=1)
    print(f"{len(jobs)} succeeded {time.monotonic() - returned:.0f} s after the right password")
    causes = Counter(item.cause or "" for job in jobs for item in ledger.attempts(job.id))
    eventually(lambda: shown_states(product) == {"Succeeded"}, "all SpokeJobs say so", every=1)
    ours = [item["status"] for item in spokejobs(product) if item["spec"]["uid"] in uids]
    charged = Counter(kind for status in ours for kind in status.get("charged", {}))
    print(f"causes {causes}, counted {charged}")
    engine.dispose()
    assert set(causes) == {"", "DatabaseUnreachable"}
    assert set(charged) <= NOT_CHARGED


def slow(seconds: float) -> JobData:
    return JobData("e2e_slow", e2e_jobs.Slow(seconds=seconds))


def states(ledger: SqlLedger, jobs: Sequence[JobRequest]) -> Counter[JobState]:
    """How many of the jobs are in which state."""
    among = {job.id for job in jobs}
    return Counter(row.state for row in ledger.list_jobs(1000) if row.id in among)


def spokejobs(product: Product) -> list[Object]:
    found = product.get("spokejobs")
    items: list[Object] = (found or {"items": []})["items"]
    return items


def shown_states(product: Product) -> set[str | None]:
    """What the SpokeJobs say, both of the cluster and of the ledger."""
    return {item["status"].get(key) for item in spokejobs(product) for key in ("outcome", "ledger")}


def rotate(product: Product, password: str) -> None:
    """Put a password into the Secret and restart what has read it, as docs/rotating.md has it."""
    inside = f"{product.release}-database"
    url = make_url(product.url).set(host=inside, port=5432, password=password)
    secret = {"stringData": {"url": url.render_as_string(hide_password=False)}}
    product.kubectl("patch", "secret", inside, "--patch", json.dumps(secret))
    names = [f"deployment/{product.release}-{component}" for component in ("sync", "tasks")]
    product.kubectl("rollout", "restart", *names)


def test_the_control_plane_paused_for_two_minutes(beside: Scene, cluster: Cluster, postgres_ledger_url: str) -> None:
    """API server, scheduler and controllers stand still at once; half of the jobs end meanwhile."""
    namespace, database = beside.namespace(), beside.database(postgres_ledger_url)
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, database, env=LEASE)
    end_meanwhile = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="meanwhile"), 5)
    run_on = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"), 5)
    application.until_all_run([*end_meanwhile, *run_on])
    with exclusive(NODE_THAT_STOPS):
        cluster.run("docker", "pause", f"{CLUSTER}-control-plane")
        try:
            dispatched = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=0.5), 10)
            application.open("meanwhile")
            succeeded = {JobState.SUCCEEDED: len(end_meanwhile)}
            eventually(lambda: application.states(end_meanwhile) == succeeded, "they end", every=1)
            assert stays(application.nothing_is_given_up, 120, every=5)
        finally:
            cluster.run("docker", "unpause", f"{CLUSTER}-control-plane")
    application.open("afterwards")
    assert one_result_each(application, [*end_meanwhile, *run_on, *dispatched], 600) == ({}, {})
