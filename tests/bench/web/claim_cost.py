"""Claims with and without the dashboard's load, in pairs of short periods, in random order.

The load: each reader has another page open, which is live, so that their browser reads it again as soon as live pages
do (`SOONEST_SECONDS`). A period is that long, and each page is read once in it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import URL
from tests.bench.lib.processes import BenchError
from tests.bench.web.dashboards import Dashboard
from tests.bench.web.layout import AREAS

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.web.change_stream import SOONEST_SECONDS

OPEN_PAGES = ("/", "/jobs", "/queues", "/failures", "/jobs?state=failed")
"""What readers have open, in turns."""
_LEASE = 3600.0


@dataclass(frozen=True, slots=True)
class ClaimCost:
    """Claims a second of one worker."""

    readers: int
    pairs: list[tuple[float, float]]
    """Without the load, and with it."""
    pages_per_second: float
    """Of the load."""


def measure(url: URL, shown: Dashboard, readers: int, rounds: int, say: Callable[[str], None]) -> ClaimCost:
    """Measure pairs."""
    order, pairs = random.Random(7), list[tuple[float, float]]()
    engine = create_engine(url, prepares=True)
    ledger = SqlLedger(engine)
    try:
        _claims(ledger)  # not counted: new connections, and before statements are prepared
        for number in range(rounds):
            found = {}
            for loaded in order.sample((False, True), 2):
                with ExitStack() as stack:
                    if loaded:
                        stack.enter_context(_Readers(shown, readers))
                    found[loaded] = _claims(ledger)
            pairs.append((found[False], found[True]))
            say(f"claims, round {number + 1} of {rounds}: {found[False]:.0f}/s, with the load {found[True]:.0f}/s")
    finally:
        engine.dispose()
    return ClaimCost(readers, pairs, readers / SOONEST_SECONDS)


def _claims(ledger: SqlLedger) -> float:
    """Claim jobs one by one, and record that they succeeded; return how many a second."""
    types = [f"{area}.*" for area in AREAS]
    began, count = time.monotonic(), 0
    while time.monotonic() < began + SOONEST_SECONDS:
        claims = ledger.claim_batch("legacy", types, "bench", _LEASE)
        if not claims:
            raise BenchError("no waiting job is left: choose more of them, WAITING=200000, or fewer CLAIM_ROUNDS")
        ledger.succeed_many({claim.token: None for claim in claims})
        count += len(claims)
    return count / (time.monotonic() - began)


class _Readers:
    """People whose browsers read their pages again, once each. The block ends when all have got their pages."""

    def __init__(self, shown: Dashboard, count: int) -> None:
        self._threads = [
            threading.Thread(
                target=self._read, args=(shown, OPEN_PAGES[number % len(OPEN_PAGES)], SOONEST_SECONDS * number / count)
            )
            for number in range(count)
        ]

    @staticmethod
    def _read(shown: Dashboard, path: str, after_seconds: float) -> None:
        time.sleep(after_seconds)
        shown.get(path)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_error: object) -> None:
        for thread in self._threads:
            thread.join()
