"""The processes that *Overview* shows: workers, pods, sync, the operator, and replicas of the task deployment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import SILENCE, SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.outbox.outbox_queries import ReplicaClaims
from spoke_jobs.ledger.outbox.task_replicas import TaskReplica
from spoke_jobs.ledger.reading.dashboard_queries import SeenWorker
from spoke_jobs.web.view_parts import SyncSign, When, has_died

_QUIET = timedelta(minutes=2)
"""A worker without a heartbeat for so long may be gone. Running attempts renew their leases more often."""
_TEXT_LIMIT = 200
WORKER = "worker or pod"
ALIVE = "alive"
IDLE_OR_GONE = "idle or gone"
GONE = "gone"
TASK_REPLICA = "task replica"


@dataclass(frozen=True, slots=True)
class ProcessItem:
    """A process, or a kind of process of which one should be alive."""

    kind: str
    name: str
    """Empty if it is not known."""
    state: str
    running: str = ""
    """How many jobs or tasks it runs; empty if that is not known."""
    since: When | None = None
    """Since when it has been alive; None if that is not known."""
    seen: When | None = None
    """Its last sign; None if that is not known."""


def worker_processes(workers: Iterable[SeenWorker], now: datetime) -> Iterable[ProcessItem]:
    """Describe workers, and the pods of running attempts. The ledger does not know when they started."""
    for worker in workers:
        quiet = worker.lapsed > 0 or now - worker.heartbeat_at > _QUIET
        seen = When.of(worker.heartbeat_at, now)
        state = IDLE_OR_GONE if quiet else ALIVE
        yield ProcessItem(WORKER, line(worker.worker), state, f"{worker.running:,}", seen=seen)


def sync_process(sync: SyncSign, now: datetime, *, needed: bool) -> Iterable[ProcessItem]:
    """Describe sync, if the database can tell whether one is active, and if one is or should be.

    :param needed: whether jobs of this database run in pods.
    """
    if sync.active:  # it holds its lock while it is connected
        since = When.of(sync.since, now) if sync.since is not None else None
        yield ProcessItem("sync", "", ALIVE, since=since, seen=When.of(now, now))
    elif sync.active is False and needed:
        yield ProcessItem("sync", "", "none is active")


def operator_process(
    view: NamespaceView | None, waits: SpokeJobWaits | None, now: datetime, *, needed: bool
) -> Iterable[ProcessItem]:
    """Describe the operator, if it has published its state in the namespace, or if a job needs it.

    It publishes its state at least once a minute while jobs are unfinished, and nothing otherwise.

    :param view: None if the cluster has not answered yet.
    :param waits: None if no job says that there are SpokeJobs.
    :param needed: whether a job waits for a pod.
    """
    if view is None or view.publication is None:
        if not needed:
            return
        if view is None:
            state = "unknown: the cluster has not answered yet"
        elif problem := view.problem or view.state_problem:
            state = f"unknown: {line(problem, _TEXT_LIMIT)}"
        else:
            state = "none has published its state"
        yield ProcessItem("operator", "", state)
        return
    at, name = view.publication.at, line(view.publication.operator, _TEXT_LIMIT)
    oldest = waits.oldest_unfinished if waits is not None else None
    state = ALIVE
    if now - at > SILENCE:
        state = "silent" if oldest is not None and now - oldest > SILENCE else IDLE_OR_GONE
    leads = view.publication.leads_since
    since = When.of(leads, now) if leads is not None else None
    yield ProcessItem("operator", name, state, since=since, seen=When.of(at, now))


def task_processes(
    replicas: Sequence[TaskReplica], claims: Iterable[ReplicaClaims], now: datetime
) -> Iterable[ProcessItem]:
    """Describe the replicas of the task deployment.

    :param claims: the replicas with claims under a valid lease. Those of an earlier release give no other sign.
    """
    for each in replicas:
        state, running = (GONE, "") if has_died(each, now) else (ALIVE, f"{each.used + each.used_async:,}")
        since, seen = When.of(each.started_at, now), When.of(each.seen_at, now)
        yield ProcessItem(TASK_REPLICA, line(each.name), state, running, since, seen)
    signed = {each.name for each in replicas}
    for claim in claims:
        if claim.replica not in signed:
            yield ProcessItem(TASK_REPLICA, line(claim.replica) or "unknown", ALIVE)
