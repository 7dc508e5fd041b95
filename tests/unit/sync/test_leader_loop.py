"""How much of what is decided a turn of sync carries out."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, select, update
from tests.contract.ledger import LEASE, new_job
from tests.unit.sync.engine_writer import EngineWriter, loop_on
from tests.unit.sync.fake_cluster import FakeCluster
from tests.unit.sync.making import LONG_AGO, NOW, row, running, seen, under_way
from tests.waiting import eventually

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import Claim, JobRequest, JobState
from spoke_jobs.registry import Registry
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.sync.decide import compare
from spoke_jobs.sync.leader_loop import _PROGRESS_BUDGET_SECONDS, Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.sync_model import AttemptView, Row, read_view
from spoke_jobs.sync.undecided import FAILED
from spoke_jobs.sync.writer import ConnectionLost, Writer

WRITE_SECONDS = 0.3
MOST_IN_A_TURN = 4
"""The budget is asked before each: one may begin within it and end after."""


class SlowCluster:
    """An API server with a SpokeJob for each row, and a clock that every write to it moves."""

    def __init__(self, rows: list[Row]) -> None:
        self.now = 100.0
        self.written: list[str] = []
        self._runs = {item.name: item for item in rows}

    def clock(self) -> float:
        return self.now

    def apply_status(self, name: str, uid: str, resource_version: str, status: Body) -> Body:
        self.now += WRITE_SECONDS
        self.written.append(name)
        job = self._runs[name].job
        metadata = {"name": name, "uid": uid, "resourceVersion": resource_version + "0"}
        attempts = [{"number": 1, "finishedAt": ""}]
        shown: dict[str, Any] = {"outcome": "Running", "attempt": 1, "attempts": attempts}
        return {"metadata": metadata, "spec": {"uid": str(job.uid), "run": job.run}, "status": shown | status}


class NoPods:
    """An API server whose pods are all gone."""

    namespace = "jobs"

    def ask(self, path: str, *_: Any) -> Any:
        raise api_error(404, "NotFound", path)


def test_the_output_of_a_run_is_read_although_the_row_is_in_the_next_one(engine: Engine) -> None:
    loop = loop_on(engine, NoPods())
    job = SqlLedger(engine).insert(new_job(runner="kubernetes"))
    with engine.begin() as connection:
        connection.execute(update(job_request).values(run=2))
    first = seen(Row(job, None), attempts=(AttemptView(1, True, "JobError", "", "", "pod-1"),))
    loop._follow([(first, False)])
    eventually(lambda: loop._outputs.store() > 0, "its report is stored")
    assert [(item.run, item.number, item.pod) for item in Queries(engine).reports(job.id)] == [(1, 1, "pod-1")]
    loop._outputs.close()


def test_the_output_of_an_attempt_that_is_being_stopped_is_stored_when_sync_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_on(engine, NoPods())
    job = SqlLedger(engine).insert(new_job(runner="kubernetes"))
    stopping = AttemptView(1, False, "Timeout", "", "", "pod-1")
    loop._follow([(seen(Row(job, None), attempts=(stopping,)), False)])
    assert eventually(lambda: loop._outputs.store() == 0 and loop._outputs._stopping, "its output is read")
    for name in ("start", "stop"):
        monkeypatch.setattr(loop._watcher, name, lambda: None)
    ends = threading.Event()
    ends.set()
    loop.serve(ends)
    loop.close(stores=True)
    assert [item.cause for item in Queries(engine).reports(job.id)] == ["Timeout"]


def test_output_that_finds_no_place_in_the_queue_is_kept_although_its_job_has_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to do for such a SpokeJob but this. Memory of it goes with the SpokeJob."""
    monkeypatch.setattr("spoke_jobs.sync.output_keeper._QUEUED", 2)
    ledger, cluster = SqlLedger(engine), FakeCluster()
    jobs = [ledger.insert(new_job(runner="kubernetes")) for _ in range(6)]
    attempts = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NodeLost", "pod": "pod-1"}]
    status = {"outcome": "Failed", "cause": "NodeLost", "attempt": 1, "attempts": attempts}
    for job in jobs:
        cluster.put(spokejob(job, cluster.namespace) | {"status": status})
    loop = loop_on(engine, cluster, patience=0.0)
    for _ in range(3):
        loop._compare()
        eventually(lambda: loop._outputs.store() is not None and not loop._outputs._readings, "all are stored")
    assert [len(Queries(engine).reports(job.id)) for job in jobs] == [1] * 6
    names = list(cluster.objects)
    loop._follow([(read_view(cluster.objects.pop(names[0])), True)])
    assert [name for name in names if loop._outputs.remembers(name)] == names[1:]
    cluster.objects.clear()
    loop._compare()
    assert not any(loop._outputs.remembers(name) for name in names)
    loop._outputs.close()


class OrderedCluster(FakeCluster):
    """Notes the rows whose SpokeJobs are created, and refuses some."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[int] = []
        self.refused: set[int] = set()

    def create(self, body: Body) -> Body:
        if body["spec"]["requestId"] in self.refused:
            raise api_error(403, "Forbidden", "exceeded quota")
        self.created.append(body["spec"]["requestId"])
        return super().create(body)


@pytest.fixture
def line(engine: Engine) -> list[int]:
    """Three jobs that lock one queue and have no SpokeJob."""
    ledger, new = SqlLedger(engine), new_job(runner="kubernetes", queue_name="q", locks_queue=True)
    return [ledger.insert(new).id for _ in range(3)]


def created_at(engine: Engine, job_id: int, at: datetime) -> None:
    with engine.begin() as connection:
        connection.execute(update(job_request).where(job_request.c.id == job_id).values(created_at=at))


def test_a_comparison_creates_the_spokejobs_of_a_locked_queue_in_the_order_of_their_rows(
    engine: Engine, line: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, read = OrderedCluster(), syncing.unfinished

    def in_another_order(connection: Connection, after: int | None) -> syncing.Unfinished:  # it promises none
        found = read(connection, after)
        return found._replace(rows=found.rows[::-1])

    monkeypatch.setattr(syncing, "unfinished", in_another_order)
    loop_on(engine, cluster, patience=0.0)._compare()
    assert cluster.created == line


def states(engine: Engine) -> list[tuple[JobState, str]]:
    with engine.connect() as connection:
        columns = (job_request.c.state, job_request.c.cause)
        return [(row.state, row.cause) for row in connection.execute(select(*columns).order_by(job_request.c.id))]


def test_however_many_rows_there_are_a_comparison_reads_some_and_the_next_one_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job may write millions of rows, and sync has little memory."""
    monkeypatch.setattr(syncing, "COMPARED", 2)
    ledger, cluster = SqlLedger(engine), OrderedCluster()
    jobs = [ledger.insert(new_job(runner="kubernetes")) for _ in range(7)]
    with engine.begin() as connection:
        connection.execute(update(job_request).values(submitted_at=datetime.now(UTC)))
    for job in (jobs[0], jobs[3], jobs[5]):  # of the others, the SpokeJobs were deleted
        cluster.put(spokejob(job, cluster.namespace) | {"status": {}})
        assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE), Claim)
    loop = loop_on(engine, cluster)
    gone = []
    for _ in range(4):
        loop._compare()
        gone.append([job.id for job, state in zip(jobs, states(engine), strict=True) if state[1] == "SpokeJobDeleted"])
    assert gone == [[2, 3], [2, 3, 5], [2, 3, 5, 7], [2, 3, 5, 7]]
    assert [states(engine)[number][0] for number in (0, 3, 5)] == [JobState.RUNNING] * 3


def test_a_part_that_ends_at_the_id_zero_is_not_the_last_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other code may insert any ids. No comparison would read the rows behind it."""
    monkeypatch.setattr(syncing, "COMPARED", 2)
    ledger = SqlLedger(engine)
    with_id = {job_id: ledger.insert(new_job(runner="kubernetes")).id for job_id in (-1, 0, 1)}
    with engine.begin() as connection:
        for job_id, inserted in with_id.items():
            changes = {"id": job_id, "submitted_at": datetime.now(UTC)}
            connection.execute(update(job_request).where(job_request.c.id == inserted).values(changes))
        parts = [syncing.unfinished(connection)]
        while (last := parts[-1].last) is not None:
            parts.append(syncing.unfinished(connection, last))
    assert [[job.id for job, _ in part.rows] for part in parts] == [[-1, 0], [1]]


def test_a_comparison_launches_few_of_many_jobs_and_the_next_turns_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "_UNLAUNCHED", 2)
    cluster = OrderedCluster()
    jobs = [SqlLedger(engine).insert(new_job(runner="kubernetes")).id for _ in range(5)]
    loop = loop_on(engine, cluster, patience=0.0)
    loop._compare()
    assert cluster.created == jobs[:2]
    loop._launch(timedelta(0))
    assert cluster.created == jobs


@pytest.mark.parametrize("routine", ["launch", "compare"])
def test_a_row_waits_for_an_older_one_that_its_process_still_tries(
    engine: Engine, line: list[int], routine: str
) -> None:
    """The ids of rows and the times of their creation may be in another order."""
    cluster, now = OrderedCluster(), datetime.now(UTC)
    loop = loop_on(engine, cluster, patience=60.0)
    launch = loop._compare if routine == "compare" else lambda: loop._launch(timedelta(seconds=60))
    for job_id in line[1:]:
        created_at(engine, job_id, now - timedelta(hours=1))
    launch()
    assert cluster.created == []
    created_at(engine, line[0], now - timedelta(hours=1))
    launch()
    assert cluster.created == line


def test_a_row_whose_spokejob_is_refused_lets_the_others_of_its_queue_pass(engine: Engine, line: list[int]) -> None:
    cluster = OrderedCluster()
    cluster.refused = {line[0]}
    loop = loop_on(engine, cluster, patience=0.0)
    loop._launch(timedelta(0))
    assert cluster.created == line[1:]


def test_rows_that_stay_as_they_are_keep_no_other_from_being_launched(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spoke_jobs.sync.leader_loop._BATCH", 2)
    cluster, read = OrderedCluster(), syncing.may_launch
    jobs = [SqlLedger(engine).insert(new_job(runner="kubernetes")).id for _ in range(5)]

    def may_launch(connection: Connection, job: JobRequest, wait_seconds: float | None = None) -> bool:
        return job.id not in jobs[:2] and read(connection, job, wait_seconds)

    monkeypatch.setattr(syncing, "may_launch", may_launch)
    loop = loop_on(engine, cluster, patience=0.0)
    for _ in range(3):
        loop._launch(timedelta(0))
    assert cluster.created == jobs[2:]
    monkeypatch.undo()
    loop._launch(timedelta(0))
    assert cluster.created == [*jobs[2:], *jobs[:2]], "they are tried again"


def test_a_row_whose_attempts_other_code_has_counted_below_0_is_launched(engine: Engine, line: list[int]) -> None:
    with engine.begin() as connection:
        connection.execute(update(job_request).where(job_request.c.id == line[0]).values(attempt=-1))
    cluster = OrderedCluster()
    loop_on(engine, cluster, patience=0.0)._launch(timedelta(0))
    assert cluster.created == line


def test_a_row_of_a_time_to_come_holds_back_no_other_of_its_queue(engine: Engine, line: list[int]) -> None:
    created_at(engine, line[0], datetime(2999, 1, 1, tzinfo=UTC))
    for job_id in line[1:]:
        created_at(engine, job_id, datetime.now(UTC) - timedelta(hours=1))
    cluster = OrderedCluster()
    loop_on(engine, cluster, patience=60.0)._launch(timedelta(seconds=60))
    assert cluster.created == line[1:]


class EmptyCluster:
    """An API server without any SpokeJob."""

    namespace = "jobs"

    def pages(self) -> Iterator[Any]:
        return iter(())

    def list_objects(self, _kind: object, _labels: object) -> list[Body]:
        return []


def test_a_routine_that_raises_leaves_the_other_routines_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OverflowError("date value out of range")

    now = [0.0]
    writer, health = cast(Writer, EngineWriter(engine)), SyncHealth(lambda: now[0])
    api = cast(SpokeJobClient, EmptyCluster())
    loop = LeaderLoop(writer, api, health, Intervals(compare=0.0), lambda: now[0], registry=Registry())
    for place in (
        "ledger.maintenance.settling.settle_ended",
        "ledger.maintenance.pruning.prune",
        "runners.ticker.Ticker.tick_if_due",
    ):
        monkeypatch.setattr(f"spoke_jobs.{place}", fails)
    loop._limits._read = fails
    monkeypatch.setattr(loop._outputs, "store", fails)
    for name in ("_launch", "_show_progress", "_decide_again"):
        monkeypatch.setattr(loop, name, fails)
    for _ in range(3):
        loop.turn()
        now[0] += 60.0
    assert health.comparisons == 3
    assert health.failures[FAILED] == 8 * 3
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 8, "each once, with its traceback"

    launched: list[object] = []
    monkeypatch.setattr(loop, "_launch", launched.append)
    monkeypatch.setattr(loop, "_compare", fails)
    for _ in range(3):
        loop.turn()
        now[0] += 60.0
    assert len(launched) == 3, "also while ledger and cluster can't be compared"

    monkeypatch.setattr("spoke_jobs.ledger.maintenance.settling.settle_ended", loses_the_connection)
    with pytest.raises(ConnectionLost):
        loop.turn()
    loop._outputs.close()


@pytest.mark.parametrize("broken", ["_compare", "_follow"])
def test_changes_that_an_error_kept_from_being_read_are_found_by_a_comparison(
    broken: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    health = SyncHealth(lambda: now[0])
    loop = loop_on(engine, EmptyCluster(), lambda: now[0], health, compare=1e6)
    failed = 0

    def fails(*_: Any) -> None:
        nonlocal failed
        failed += 1
        raise OverflowError

    if broken == "_follow":
        loop.turn()
    compared = health.comparisons
    with monkeypatch.context() as patch:
        patch.setattr(loop, broken, fails)
        for _ in range(100):
            loop._inbox.put(seen(row()), deleted=False)
            loop.turn()
    assert failed == 1, "it is repeated after a wait"
    assert health.comparisons == compared
    now[0] += 1.0
    loop.turn()
    assert health.comparisons == compared + 1
    loop._outputs.close()


def loses_the_connection(*_: object, **__: object) -> None:
    raise ConnectionLost("the connection to the database broke")


def of_number(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": number, "uid": uuid.UUID(int=number)} | changes


def test_progress_has_a_second_of_each_turn_and_what_is_left_over_comes_next() -> None:
    rows = [running(**of_number(number, status=40)) for number in range(1, 11)]
    ended = row(**of_number(11, state=JobState.SUCCEEDED, status=100, submitted_at=LONG_AGO, attempt=1))
    cluster = SlowCluster([*rows, ended])
    term = LeaderLoop(
        cast(Writer, None), cast(SpokeJobClient, cluster), SyncHealth(cluster.clock), Intervals(), cluster.clock
    )
    term._effects.spokejobs = {item.name: under_way(item) for item in (*rows, ended)}

    def turn(rows: list[Row]) -> list[str]:
        before, began = len(cluster.written), cluster.now
        term._carry_out(compare(rows, term._effects.spokejobs, NOW))
        assert cluster.now - began <= _PROGRESS_BUDGET_SECONDS + 2 * WRITE_SECONDS
        return cluster.written[before:]

    first = turn([*rows, ended])
    assert first[0] == ended.name, "an end is told before, and isn't counted"
    assert len(first[1:]) == MOST_IN_A_TURN
    assert len(turn(rows)) == MOST_IN_A_TURN
    assert len(turn(rows)) == len(rows) - 2 * MOST_IN_A_TURN
    assert turn(rows) == [], "all is shown"
    assert sorted(cluster.written[1:]) == sorted(item.name for item in rows), "each once"
