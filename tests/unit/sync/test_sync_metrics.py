"""The probe's answer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.unit.sync.conftest import Clock
from tests.waiting import patient

from spoke_jobs.ledger.cluster.lane_load import LaneLoad
from spoke_jobs.shared import probe_server
from spoke_jobs.sync.sync_metrics import STALE_SECONDS, SyncHealth, exposition, scale, serve_probes


@pytest.fixture
def health(clock: Clock) -> SyncHealth:
    health = SyncHealth(clock)
    health.role = "active"
    return health


def waiting() -> tuple[int, float]:
    return 3, 12.5


@pytest.fixture
def address(health: SyncHealth, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(probe_server, "_LONGEST_REST_SECONDS", 0.0)  # each request sees what the test did before it
    server = serve_probes(health, 0, "127.0.0.1", waiting)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_loop_that_turns_is_healthy(address: str) -> None:
    with urllib.request.urlopen(f"{address}/healthz", timeout=patient(30)) as response:
        assert json.load(response) == {"role": "active", "secondsSinceTurn": 0.0, "secondsSinceCompare": None}


@pytest.mark.parametrize(("path", "passed", "status"), [("/healthz", STALE_SECONDS, 503), ("/other", 0, 404)])
def test_a_loop_that_hangs_is_not(address: str, clock: Clock, path: str, passed: float, status: int) -> None:
    clock.now += passed
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}{path}", timeout=patient(30))
    assert caught.value.code == status
    caught.value.close()


def metrics(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{address}/metrics", timeout=patient(30)) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_tell_of_the_backlog_the_comparisons_and_what_was_done(
    address: str, health: SyncHealth, clock: Clock
) -> None:
    clock.now += 7
    found = metrics(address)
    assert found["spoke_sync_seconds_since_compare"] == 7, "none has been made, though it tries to"
    assert "spoke_sync_compare_seconds" not in found
    health.compared(0.25)
    health.done["Launch"] += 2
    health.repaired["Launch"] += 1
    clock.now += 5
    found = metrics(address)
    assert found["spoke_sync_active"] == 1
    assert (found["spoke_sync_jobs_unlaunched"], found["spoke_sync_oldest_unlaunched_seconds"]) == (3, 12.5)
    assert (found["spoke_sync_comparisons_total"], found["spoke_sync_seconds_since_compare"]) == (1, 5)
    assert found["spoke_sync_compare_seconds"] == 0.25
    assert found['spoke_sync_actions_total{kind="Launch"}'] == 2
    assert found['spoke_sync_repairs_total{kind="Launch"}'] == 1
    assert found['spoke_sync_repairs_total{kind="FailJob"}'] == 0, "told before it happens"


def test_metrics_are_there_while_the_database_is_away(health: SyncHealth) -> None:
    def away() -> tuple[int, float]:
        raise OSError("away")

    server = serve_probes(health, 0, "127.0.0.1", away)
    try:
        found = metrics(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
    assert "spoke_sync_seconds_since_turn" in found
    assert "spoke_sync_jobs_unlaunched" not in found


def test_how_far_it_is_behind_is_told_by_who_compares_or_tries_to(
    address: str, health: SyncHealth, clock: Clock
) -> None:
    health.compared()
    health.role = "standby"
    clock.now += 1000
    assert "spoke_sync_seconds_since_compare" not in metrics(address), "another compares"
    health.role = "waiting for the database"
    clock.now += 3
    health.role = "active"
    clock.now += 4
    assert metrics(address)["spoke_sync_seconds_since_compare"] == 7, "its own last comparison was in an earlier term"
    health.compared()
    clock.now += 5
    health.role = "waiting for the API server"
    clock.now += 200
    found = metrics(address)
    assert (found["spoke_sync_seconds_since_compare"], found["spoke_sync_active"]) == (205, 0)
    health.listed()
    health.compared()
    found = metrics(address)
    assert (found["spoke_sync_seconds_since_compare"], found["spoke_sync_active"]) == (0, 1)


LOADS = {"small": LaneLoad(due=7, running=2, oldest_seconds=31.25), "large": LaneLoad()}


def test_what_each_set_of_workers_has_to_do(health: SyncHealth) -> None:
    body = exposition(health, None, None, lambda _name: LOADS).text
    for line in (
        'spoke_sync_lane_jobs_due{workers="small"} 7.0',
        'spoke_sync_lane_jobs_running{workers="small"} 2.0',
        'spoke_sync_lane_oldest_due_seconds{workers="small"} 31.25',
        'spoke_sync_lane_jobs_due{workers="large"} 0.0',
    ):
        assert line in body.splitlines()


def test_an_autoscaler_counts_due_and_running_jobs_so_that_it_stops_no_busy_worker() -> None:
    answer = scale(lambda _name: LOADS)
    assert answer.status == 200
    assert json.loads(answer.body)["small"] == {"jobs": 9, "due": 7, "running": 2, "oldestDueSeconds": 31.2}


def test_an_autoscaler_that_asks_for_a_set_gets_that_set_counted_and_no_other(
    health: SyncHealth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_server, "_LONGEST_REST_SECONDS", 0.0)
    asked: list[str | None] = []
    sets = {"small": LaneLoad(due=7), "ä b&c": LaneLoad(due=3), "large": LaneLoad(due=1)}

    def loads(name: str | None) -> dict[str, LaneLoad]:
        asked.append(name)
        return sets if name is None else {name: sets[name]}

    def due(query: str) -> dict[str, int]:
        address = f"http://127.0.0.1:{server.server_address[1]}/scale{query}"
        with urllib.request.urlopen(address, timeout=patient(30)) as response:
            return {name: load["due"] for name, load in json.load(response).items()}

    server = serve_probes(health, 0, "127.0.0.1", lanes=loads, worker_sets=sets)
    try:
        assert due("?workers=small") == {"small": 7}
        assert due("?workers=%C3%A4+b%26c") == {"ä b&c": 3}
        assert asked == ["small", "ä b&c"]
        everything = {"small": 7, "ä b&c": 3, "large": 1}
        assert due("") == due("?workers=unknown") == everything
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/scales", timeout=patient(30))
        caught.value.close()
        assert caught.value.code == 404
    finally:
        server.shutdown()
        server.server_close()


def test_an_autoscaler_gets_no_number_while_nobody_knows_one(health: SyncHealth) -> None:
    def away(_name: str | None) -> dict[str, LaneLoad]:
        raise OSError("away")

    assert scale(away).status == 503
    assert "spoke_sync_lane" not in exposition(health, None, None, away).text
