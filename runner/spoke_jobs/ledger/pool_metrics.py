"""Metrics of a process's connections to the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from sqlalchemy import Engine, QueuePool

from spoke_jobs.contract.metrics.metric_families import gauge
from spoke_jobs.contract.metrics.metric_spec import MetricSource


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The connections of a pool."""

    used: int
    idle: int
    limit: int | None
    """How many it opens at most; None: any number."""


def pool_use(engine: Engine) -> PoolUse | None:
    """Return the use of an engine's pool; None if it keeps no connections."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        return None
    unbounded = pool.size() == 0 or pool._max_overflow < 0  # there is no public way to read it
    limit = None if unbounded else pool.size() + pool._max_overflow
    return PoolUse(pool.checkedout(), pool.checkedin(), limit)


def pool_families(process: MetricSource, use: PoolUse | None) -> Iterator[Metric]:
    """Return the metrics of a pool."""
    if use is None:
        return
    connections = gauge(f"spoke_{process}_database_connections")
    connections.add_metric(["used"], use.used)
    connections.add_metric(["idle"], use.idle)
    yield connections
    if use.limit is not None:
        yield gauge(f"spoke_{process}_database_connections_limit", use.limit)
