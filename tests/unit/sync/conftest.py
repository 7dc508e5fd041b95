"""A ledger on SQLite, a cluster that is a dictionary, and sync between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from sqlalchemy import Engine, event
from tests.unit.sync.engine_writer import EngineWriter
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.writer import Writer

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


@pytest.fixture
def turns(engine: Engine, cluster: FakeCluster) -> Iterator[Turns]:
    """The leader's loop, with a clock that each call moves."""
    now = 100.0
    intervals = Intervals(launch=1, progress=1, compare=1, strays=1, prune=1, patience=0)
    writer, api = cast(Writer, EngineWriter(engine)), cast(SpokeJobClient, cluster)
    loop = LeaderLoop(writer, api, SyncHealth(), intervals, lambda: now)

    def turns(seconds: float = 4.0) -> None:
        nonlocal now
        for _ in range(2):
            now += seconds / 2
            loop.turn()

    yield turns
    loop._outputs.close()
