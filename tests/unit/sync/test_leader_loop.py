"""How much of what is decided a turn of sync carries out."""

from __future__ import annotations

import uuid
from typing import Any, cast

from tests.unit.sync.making import LONG_AGO, NOW, row, running, under_way

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.model import JobState
from spoke_jobs.sync.decide import compare
from spoke_jobs.sync.leader_loop import _PROGRESS_BUDGET_SECONDS, Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.sync_model import Row
from spoke_jobs.sync.writer import Writer

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
