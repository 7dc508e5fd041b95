"""What *Overview* says of processes, from values."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.explain.situations import NOW

from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.operator_state import OperatorState, Publication
from spoke_jobs.ledger.outbox.outbox_queries import ReplicaClaims
from spoke_jobs.ledger.outbox.task_replicas import TaskReplica
from spoke_jobs.ledger.reading.dashboard_queries import SeenWorker
from spoke_jobs.web.process_views import operator_process, sync_process, task_processes, worker_processes
from spoke_jobs.web.view_parts import SyncSign, When


def at(seconds: float) -> Publication:
    return Publication(NOW - timedelta(seconds=seconds), "operator-1", OperatorState())


def unfinished(seconds: float) -> SpokeJobWaits:
    return SpokeJobWaits(oldest_unfinished=NOW - timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("view", "waits", "needed", "said"),
    [
        (NamespaceView("shop", at(150)), None, False, "alive"),
        (NamespaceView("shop", at(151)), None, False, "idle or gone"),
        (NamespaceView("shop", at(151)), unfinished(150), True, "idle or gone"),
        (NamespaceView("shop", at(151)), unfinished(151), True, "silent"),
        (NamespaceView("shop", at(60)), unfinished(600), True, "alive"),
        (NamespaceView("shop"), None, False, None),
        (NamespaceView("shop"), None, True, "none has published its state"),
        (NamespaceView("shop", problem="403 <b>"), None, True, "unknown: 403 <b>"),
        (NamespaceView("shop", state_problem="404"), None, True, "unknown: 404"),
        (None, None, True, "unknown: the cluster has not answered yet"),
        (None, None, False, None),
    ],
)
def test_the_state_of_the_operator(
    view: NamespaceView | None, waits: SpokeJobWaits | None, needed: bool, said: str | None
) -> None:
    items = list(operator_process(view, waits, NOW, needed=needed))
    assert [each.state for each in items] == ([] if said is None else [said])
    for each in items:
        published = view.publication if view is not None else None
        assert each.name == ("operator-1" if published is not None else "")
        assert each.seen == (When.of(published.at, NOW) if published is not None else None)


def test_sync_is_missed_only_where_it_is_needed() -> None:
    for needed in (False, True):
        assert list(sync_process(SyncSign(None), NOW, needed=needed)) == [], "SQLite"
        (item,) = sync_process(SyncSign(True, NOW - timedelta(hours=2)), NOW, needed=needed)
        assert (item.state, item.since and item.since.text) == ("alive", "2 h ago")
    assert list(sync_process(SyncSign(False), NOW, needed=False)) == []
    (item,) = sync_process(SyncSign(False), NOW, needed=True)
    assert (item.state, item.since, item.seen) == ("none is active", None, None)
    (item,) = sync_process(SyncSign(True), NOW, needed=True)
    assert item.since is None, "the database does not tell this role"


def test_the_replicas_of_the_task_deployment() -> None:
    def replica(name: str, seen_seconds: float) -> TaskReplica:
        seen = NOW - timedelta(seconds=seen_seconds)
        return TaskReplica(name, NOW - timedelta(hours=2), seen, slots=8, used=3, used_async=1)

    claims = [ReplicaClaims(name, 2, 0, NOW + timedelta(seconds=20)) for name in ("b", "older")]
    items = list(task_processes([replica("a", 40), replica("b", 5), replica("c", 41)], claims, NOW))
    assert [(each.name, each.state, each.running) for each in items] == [
        *(("a", "alive", "4"), ("b", "alive", "4"), ("c", "gone", "")),
        ("older", "alive", ""),
    ]
    assert {each.since.text for each in items if each.since is not None} == {"2 h ago"}
    assert (items[1].seen, items[3].seen) == (When.of(NOW - timedelta(seconds=5), NOW), None)


def test_a_worker_without_a_heartbeat_or_with_a_lapsed_lease_may_be_gone() -> None:
    seen = [
        SeenWorker("a", 3, 0, NOW - timedelta(seconds=120)),
        SeenWorker("b", 0, 0, NOW - timedelta(seconds=121)),
        SeenWorker("c", 1, 1, NOW),
    ]
    items = list(worker_processes(seen, NOW))
    assert [(each.name, each.state, each.running) for each in items] == [
        ("a", "alive", "3"),
        ("b", "idle or gone", "0"),
        ("c", "idle or gone", "1"),
    ]
