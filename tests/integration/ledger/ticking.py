"""A process that only ticks, with a wall clock that is wrong: ``python ticking.py URL SCHEDULES SKEW_SECONDS``."""

from __future__ import annotations

import sys
import time

from spoke_jobs import Every, Registry
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.runners.ticker import ticker_of


def registry_of(schedules: int) -> Registry:
    """The schedules that all processes declare."""
    registry = Registry()
    registry.job("noop")(lambda _ctx: None)
    for number in range(schedules):
        registry.schedule(f"s{number}", "noop", Every(seconds=1, misfire="all"))
    return registry


def main() -> None:
    """Tick until killed."""
    url, schedules, skew = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    right = time.time
    vars(time).update(time=lambda: right() + skew)
    ticker = ticker_of(SqlLedger(create_engine(url)), registry_of(schedules), "legacy")
    while True:
        ticker.tick_if_due()
        time.sleep(ticker.due_in())


if __name__ == "__main__":
    main()
