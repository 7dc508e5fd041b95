"""Ticks: due times of schedules whose jobs a worker dispatches in a second."""

from __future__ import annotations

import itertools
import time

from tests.bench.lib.database import ledger_database

from spoke_jobs import Every, Registry
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.runners.ticker import Ticker

SCHEDULES = 500
_TURNS = 4


def ticks_per_second() -> float:
    """With 500 schedules that are due every second."""
    registry = Registry()
    registry.job("noop")(lambda _ctx: None)
    for number in range(SCHEDULES):
        registry.schedule(f"s{number}", "noop", Every(seconds=1))
    clock = itertools.count(step=10)  # each look at the schedules is due
    with ledger_database() as engine:
        ticker = Ticker(
            registry,
            "legacy",
            lambda: engine.connect().execution_options(**{READ_ONLY: True}),
            engine.begin,
            lambda: float(next(clock)),
        )
        ticker.tick_if_due()
        seconds, ticks = 0.0, 0
        for _ in range(_TURNS):
            time.sleep(1)  # each schedule is due again
            began = time.perf_counter()
            dispatched = ticker.tick_if_due()
            seconds += time.perf_counter() - began
            assert len(dispatched) >= SCHEDULES, len(dispatched)
            ticks += len(dispatched)
        return ticks / seconds
