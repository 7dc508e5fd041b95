"""Sync on an engine, without a process beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Connection, Engine

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.writer import Writer


class EngineWriter:
    """Give each transaction a connection of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection


def loop_on(
    engine: Engine,
    cluster: Any,
    clock: Callable[[], float] = lambda: 0.0,
    health: SyncHealth | None = None,
    **intervals: float,
) -> LeaderLoop:
    """Sync between that ledger and that cluster."""
    writer, api = cast(Writer, EngineWriter(engine)), cast(SpokeJobClient, cluster)
    return LeaderLoop(writer, api, health or SyncHealth(clock), Intervals(**intervals), clock)
