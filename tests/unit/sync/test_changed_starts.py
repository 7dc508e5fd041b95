"""What somebody changes about the start of a job reaches its SpokeJob."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.ledger import new_job
from tests.unit.sync.conftest import Clock, Start, Turns
from tests.unit.sync.fake_cluster import FakeCluster
from tests.unit.sync.making import LONG_AGO, NOW, row, running, seen, under_way

from spoke_jobs.cluster.cluster_client import Body
from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.sync.decide import decide
from spoke_jobs.sync.leader_loop import LeaderLoop
from spoke_jobs.sync.sync_model import ChangeStart, Row, SpokeJobView, read_view


def launched(**changes: Any) -> Row:
    return row(submitted_at=LONG_AGO, **changes)


def changes(of: Row, there: SpokeJobView) -> list[ChangeStart]:
    return [action for action in decide(of, there, NOW) if isinstance(action, ChangeStart)]


@pytest.mark.parametrize("job", [launched(priority=5), running(priority=5)])
def test_a_priority_is_passed_on_until_it_is_there(job: Row) -> None:
    there = under_way(job) if job.live else seen(job)
    assert changes(job, there) == [ChangeStart(job, there, 5)]
    told = under_way(job, priority=5) if job.live else seen(job, priority=5)
    assert changes(job, told) == []


def test_the_row_decides_about_the_priority() -> None:
    job = launched()
    assert changes(job, seen(job, priority=7)) == [ChangeStart(job, seen(job, priority=7), 0)]


@pytest.mark.parametrize("priority", [PRIORITY_LIMIT + 1, -PRIORITY_LIMIT - 1])
def test_a_priority_that_no_spokejob_can_have_is_not_passed_on(priority: int) -> None:
    job = launched(priority=priority)
    assert changes(job, seen(job)) == []


@pytest.mark.parametrize("job", [launched(suspended_at=NOW), running(suspended_at=NOW)])
def test_a_suspension_is_passed_on_until_it_is_there(job: Row) -> None:
    there = under_way(job) if job.live else seen(job)
    assert changes(job, there) == [ChangeStart(job, there, suspend=True)]
    assert changes(job, replace(there, suspend=True, suspended_by_sync=True)) == []
    once_resumed = replace(there, suspended_by_sync=True)  # with kubectl, which leaves the annotation
    assert changes(job, once_resumed) == [ChangeStart(job, once_resumed, suspend=True)]


def test_what_sync_has_suspended_is_resumed_and_what_people_have_suspended_is_not() -> None:
    job = launched()
    ours, theirs = seen(job, suspend=True, suspended_by_sync=True), seen(job, suspend=True)
    assert changes(job, ours) == [ChangeStart(job, ours, suspend=False)]
    assert changes(job, theirs) == []
    resumed_by_people = seen(job, suspended_by_sync=True)  # the annotation would be about their next suspension
    assert changes(job, resumed_by_people) == [ChangeStart(job, resumed_by_people, suspend=False)]
    both = launched(suspended_at=NOW)
    assert changes(both, theirs) == []


def test_a_suspended_row_is_not_launched() -> None:
    assert decide(row(suspended_at=LONG_AGO), None, NOW) == ()


def test_nothing_is_passed_on_about_a_job_that_has_ended() -> None:
    ended = launched(priority=5, state=JobState.FAILED)
    assert changes(ended, seen(ended)) == []
    waits = launched(priority=5)
    assert changes(waits, seen(waits, outcome=Outcome.FAILED)) == []


def spec_of(cluster: FakeCluster, job: JobRequest) -> Body:
    found: Body = next(body["spec"] for body in cluster.objects.values() if body["spec"]["requestId"] == job.id)
    return found


def test_sync_passes_it_on_within_a_second(
    ledger: SqlLedger, cluster: FakeCluster, loop: LeaderLoop, turns: Turns
) -> None:
    changed, other = (ledger.insert(new_job(runner="kubernetes", job_type=name)) for name in ("changed", "other"))
    turns()
    assert len(cluster.objects) == 2
    loop._due["compare"] = 1e9
    ledger.set_priority(changed.id, 5)
    ledger.set_priority(ledger.insert(new_job()).id, 5)  # a job of workers
    turns(2)
    assert spec_of(cluster, changed)["priority"] == 5
    assert "priority" not in spec_of(cluster, other)
    assert loop._health.done["ChangeStart"] == 1


def test_a_suspension_reaches_the_spokejob_and_what_people_set_stays(
    ledger: SqlLedger, cluster: FakeCluster, loop: LeaderLoop, turns: Turns
) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    ledger.suspend(job.id)
    turns()
    assert not cluster.objects, "a suspended job gets no SpokeJob"
    ledger.resume(job.id)
    turns()
    loop._due["compare"] = 1e9
    ledger.suspend(job.id)
    turns(2)
    (body,) = cluster.objects.values()
    assert body["spec"]["suspend"] is True
    assert body["metadata"]["annotations"] == {"jobs.spoke.dev/suspended-by": "spoke-sync"}
    ledger.resume(job.id)
    turns(2)
    (body,) = cluster.objects.values()
    assert body["spec"]["suspend"] is False
    assert body["metadata"]["annotations"] == {}
    cluster.put(body | {"spec": body["spec"] | {"suspend": True}})
    loop._due["compare"] = 0.0
    turns(2)
    assert spec_of(cluster, job)["suspend"] is True


def test_what_was_changed_while_sync_was_away_is_passed_on(
    ledger: SqlLedger, cluster: FakeCluster, turns: Turns
) -> None:
    job = ledger.insert(new_job(runner="kubernetes"))
    turns()
    metadata = {"name": read_view(next(iter(cluster.objects.values()))).name}
    cluster.objects.clear()
    cluster.put({"metadata": metadata, "spec": {"uid": str(job.uid), "requestId": job.id, "priority": 3}})
    turns()
    assert spec_of(cluster, job)["priority"] == 0


CHANGES: dict[str, tuple[Callable[[SqlLedger, int], object], Body]] = {
    "priority": (lambda ledger, job_id: ledger.set_priority(job_id, 5), {"priority": 5}),
    "suspend": (lambda ledger, job_id: ledger.suspend(job_id), {"priority": 5, "suspend": True}),
    "resume": (lambda ledger, job_id: ledger.resume(job_id), {"priority": 5, "suspend": False}),
}
"""One after another, with what the SpokeJob then says."""


class Killed(BaseException):
    """Sync ends at once."""


@pytest.mark.parametrize("made", [False, True], ids=["before", "after"])
def test_a_sync_that_is_killed_at_the_write_leaves_it_to_the_next_one_which_makes_it_once(
    ledger: SqlLedger, cluster: FakeCluster, start: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """A run with processes, on the real cluster: tests/integration/sync/test_kills.py."""

    def turn(sync: LeaderLoop) -> LeaderLoop:
        clock.now += 2
        sync.turn()
        return sync

    write, writes = cluster.change_start, list[Body]()

    def write_and_note(*arguments: Any) -> Body:
        writes.append(write(*arguments))
        return writes[-1]

    def die(*arguments: Any) -> Body:
        if made:
            write_and_note(*arguments)
        raise Killed

    job = ledger.insert(new_job(runner="kubernetes"))
    for _ in range(2):
        turn(sync := start())
    for change, expected in CHANGES.values():
        writes.clear()
        change(ledger, job.id)
        monkeypatch.setattr(cluster, "change_start", die)
        with pytest.raises(Killed):
            turn(sync)
        monkeypatch.setattr(cluster, "change_start", write_and_note)
        turn(turn(sync := start()))
        assert expected.items() <= spec_of(cluster, job).items()
        assert len(writes) == 1


def test_a_definition_of_an_older_release_delays_no_other_action(
    ledger: SqlLedger, cluster: FakeCluster, loop: LeaderLoop, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Body:
        raise api_error(422, "Invalid", "spec: a SpokeJob's spec is immutable except for suspend and cancel")

    job = ledger.insert(new_job(runner="kubernetes"))
    turns()
    monkeypatch.setattr(cluster, "change_start", refuse)
    ledger.set_priority(job.id, 5)
    for _ in range(5):  # an action that failed so often would be tried again some seconds later
        turns()
    (name,) = cluster.objects
    cluster.put(cluster.objects[name], outcome="Failed", cause="PodFailed")
    loop._due["compare"] = 0.0
    turns(0.1)
    ended = ledger.get(job.id)
    assert ended is not None
    assert ended.cause == "PodFailed"


def test_a_suspension_is_passed_on_also_if_the_definition_allows_no_other_priority(
    ledger: SqlLedger, cluster: FakeCluster, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = cluster.change_start

    def of_older_release(name: str, uid: str, priority: int | None, suspend: bool | None) -> Body:
        if priority is not None:
            raise api_error(422, "Invalid", "spec: a SpokeJob's spec is immutable except for suspend and cancel")
        return change(name, uid, priority, suspend)

    job = ledger.insert(new_job(runner="kubernetes"))
    turns()
    monkeypatch.setattr(cluster, "change_start", of_older_release)
    ledger.set_priority(job.id, 5)
    ledger.suspend(job.id)
    turns(2)
    assert spec_of(cluster, job)["suspend"] is True


def test_a_change_that_is_refused_is_sent_again_after_a_minute(
    ledger: SqlLedger, cluster: FakeCluster, loop: LeaderLoop, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, asked = cluster.change_start, []

    def refuse(name: str, uid: str, priority: int | None, suspend: bool | None) -> Body:
        asked.append(priority)
        raise api_error(422, "Invalid", "spec: a SpokeJob's spec is immutable except for suspend and cancel")

    job = ledger.insert(new_job(runner="kubernetes"))
    turns()
    monkeypatch.setattr(cluster, "change_start", refuse)
    ledger.set_priority(job.id, 5)
    for _ in range(3):
        loop._due["compare"] = 0.0
        turns()
    assert asked == [5]
    monkeypatch.setattr(cluster, "change_start", change)
    turns(60)
    loop._due["compare"] = 0.0
    turns()
    assert spec_of(cluster, job)["priority"] == 5
