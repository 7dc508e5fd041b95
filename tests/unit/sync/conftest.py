"""A ledger on SQLite, a cluster that is a dictionary, and sync between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, event
from tests.unit.sync.engine_writer import loop_on
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.sync.leader_loop import LeaderLoop

Start = Callable[[], LeaderLoop]
"""Starts a sync, as after the death of another one."""
Turns = Callable[..., None]
"""Lets sync do everything that it does at intervals, twice; takes the seconds that pass meanwhile (4 by default)."""


@pytest.fixture
def engine(sqlite_ledger_url: str) -> Iterator[Engine]:
    """A ledger on SQLite, with the function of PostgreSQL that sync's queries use."""
    engine = create_engine(sqlite_ledger_url)
    event.listen(engine, "connect", lambda raw, _: raw.create_function("greatest", -1, max))
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    return SqlLedger(engine)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(engine: Engine, cluster: FakeCluster, clock: Clock) -> Iterator[Start]:
    started: list[LeaderLoop] = []

    def start() -> LeaderLoop:
        intervals = dict.fromkeys(("launch", "progress", "compare", "strays", "prune"), 1.0)
        started.append(loop_on(engine, cluster, clock, patience=0, **intervals))
        return started[-1]

    yield start
    for loop in started:
        loop._outputs.close()


@pytest.fixture
def loop(start: Start) -> LeaderLoop:
    return start()


@pytest.fixture
def turns(loop: LeaderLoop, clock: Clock) -> Turns:
    """Sync: each call lets it do everything that it does at intervals, twice."""

    def turns(seconds: float = 4.0) -> None:
        for _ in range(2):
            clock.now += seconds / 2
            loop.turn()

    return turns
