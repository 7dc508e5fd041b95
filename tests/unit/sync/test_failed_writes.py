"""The API server fails to write one SpokeJob, or many, or all. What needs no such write goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from unittest.mock import MagicMock

import pytest
from tests.contract.ledger import LEASE, new_job
from tests.unit.sync.conftest import Clock, Start, Turns
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.cluster.cluster_client import Body
from spoke_jobs.cluster.manifest import name_of, spokejob
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, JobRequest, JobState
from spoke_jobs.shared.api_errors import ApiUnavailable, NoAnswer, api_error
from spoke_jobs.sync.leader_loop import LeaderLoop
from spoke_jobs.sync.undecided import MOST_FAILED, FailedWrites

WEBHOOK = 'failed calling webhook "names.example.com": connection refused'


class BrokenCluster(FakeCluster):
    """Answers the creations of some SpokeJobs with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: Callable[[int], bool] = lambda _: False
        self.status = 500
        self.tried: list[int] = []
        self.cancelled: list[str] = []

    def create(self, body: Body) -> Body:
        number = body["spec"]["requestId"]
        self.tried.append(number)
        if self.broken(number):
            raise api_error(self.status, "InternalError", WEBHOOK)
        return super().create(body)

    def cancel(self, name: str, uid: str) -> Body:
        self.cancelled.append(name)
        body = self.objects[name]
        self.put(body | {"spec": body["spec"] | {"cancel": True}})
        return self.objects[name]


@pytest.fixture
def cluster() -> BrokenCluster:
    return BrokenCluster()


def own(ledger: SqlLedger) -> JobRequest:
    return ledger.insert(new_job(runner="kubernetes"))


def launched(ledger: SqlLedger, cluster: FakeCluster) -> JobRequest:
    """A job that runs."""
    job = own(ledger)
    assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE), Claim)
    cluster.put(spokejob(job, cluster.namespace) | {"status": {}})
    return job


def lost(ledger: SqlLedger, cluster: FakeCluster) -> JobRequest:
    """A job whose attempt has ended on the cluster only."""
    job = launched(ledger, cluster)
    attempts = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NodeLost"}]
    cluster.put(cluster.objects[name_of(job)], outcome="Waiting", attempt=1, attempts=attempts)
    return job


def state(ledger: SqlLedger, job: JobRequest) -> tuple[JobState, str]:
    found = ledger.get(job.id)
    assert found is not None
    return found.state, found.cause


def test_a_spokejob_that_cannot_be_written_delays_only_its_own_job(
    ledger: SqlLedger, cluster: BrokenCluster, clock: Clock, turns: Turns
) -> None:
    broken, second = own(ledger), own(ledger)
    ended = lost(ledger, cluster)
    cluster.broken = lambda number: number == broken.id
    turns(0)
    assert name_of(second) in cluster.objects
    assert state(ledger, ended) == (JobState.WAITING, "NodeLost")
    assert cluster.tried.count(broken.id) == 1, "it waits"
    cluster.broken = lambda _: False
    turns()
    assert name_of(broken) in cluster.objects


def test_many_spokejobs_that_cannot_be_written_mean_that_the_api_server_is_unavailable(
    ledger: SqlLedger, cluster: BrokenCluster, start: Start
) -> None:
    """New SpokeJobs are refused. What concerns the existing ones is done first, and what concerns the ledger."""
    jobs = [own(ledger) for _ in range(MOST_FAILED + 5)]
    ended, cancelled = lost(ledger, cluster), launched(ledger, cluster)
    ledger.cancel(cancelled.id)
    cluster.broken = lambda _: True
    with pytest.raises(ApiUnavailable, match="webhook"):
        start().turn()
    assert cluster.tried == [job.id for job in jobs[:MOST_FAILED]]
    assert state(ledger, ended) == (JobState.WAITING, "NodeLost")
    assert cluster.cancelled == [name_of(cancelled)]


@pytest.mark.parametrize("status", [0, 429, 503])
def test_an_api_server_that_is_unavailable_ends_the_loop_after_the_writes_to_the_ledger(
    status: int, ledger: SqlLedger, cluster: BrokenCluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> Body:
        raise api_error(status, "Unavailable", "away")

    monkeypatch.setattr(cluster, "cancel", unavailable)
    cancelled, ended, waiting = launched(ledger, cluster), lost(ledger, cluster), own(ledger)
    ledger.cancel(cancelled.id)
    with pytest.raises(ApiUnavailable, match="away"):
        start().turn()
    assert state(ledger, ended) == (JobState.WAITING, "NodeLost")
    assert not cluster.tried, "the other calls would fail, too"
    assert state(ledger, waiting) == (JobState.WAITING, "")


def test_the_routines_of_the_ledger_go_on_while_the_api_server_is_unavailable(
    ledger: SqlLedger, cluster: BrokenCluster, loop: LeaderLoop, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("_settle", "_end_strays", "_move_overflowed", "_serve_lane", "_count_usage", "_prune"):
        monkeypatch.setattr(loop, name, partial(done.append, name))
    monkeypatch.setattr(loop._outputs, "store", partial(done.append, "store"))
    needs = {name: MagicMock() for name in ("_launch", "_show_progress", "_decide_again")}
    for name, routine in needs.items():
        monkeypatch.setattr(loop, name, routine)
    monkeypatch.setattr(cluster, "pages", MagicMock(side_effect=NoAnswer("away")))
    with pytest.raises(NoAnswer):
        loop.turn()
    assert done == ["_settle", "_end_strays", "_move_overflowed", "_serve_lane", "_count_usage", "_prune", "store"]
    assert not any(routine.called for routine in needs.values())
    monkeypatch.undo()
    clock.now += 5
    loop.turn()


def test_a_loop_that_is_served_again_compares_and_keeps_what_it_knows(
    ledger: SqlLedger, cluster: BrokenCluster, loop: LeaderLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each SpokeJob that can't be written counts once, so that the others get their turn after some errors."""
    stop = threading.Event()
    monkeypatch.setattr(cluster, "watch", lambda *_: iter(()), raising=False)
    jobs = [own(ledger) for _ in range(3 * MOST_FAILED - 1)]
    cluster.broken = lambda number: number != jobs[-1].id
    monkeypatch.setattr(loop._health, "turned", stop.set)
    for _ in range(2):
        stop.clear()
        with pytest.raises(ApiUnavailable):
            loop.serve(stop)
    assert len(set(cluster.tried)) == 2 * MOST_FAILED
    stop.clear()
    loop.serve(stop)
    assert list(cluster.objects) == [name_of(jobs[-1])]


def error(status: int) -> Exception:
    return api_error(status, "InternalError", WEBHOOK)


def test_a_write_that_succeeds_in_between_shows_that_the_api_server_works() -> None:
    failed = FailedWrites()
    for number in range(MOST_FAILED - 1):
        assert failed.concerns_one(str(number), error(500))
    failed.succeeded("another")
    for number in range(MOST_FAILED - 1):
        assert failed.concerns_one(f"later {number}", error(504))
    assert not failed.concerns_one("one more", error(500))
    assert failed.concerns_one("after that", error(500)), "the next try begins anew"
