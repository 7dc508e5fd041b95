"""What a worker knows of itself, for probes and for whoever watches it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.model import Claim

STALE_SECONDS = 30.0
"""A worker whose database has not answered for so long takes no jobs."""


class WorkerMetrics:
    """Written by the supervisor, read by the endpoint's threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, poll_seconds: float = 0.0) -> None:
        self._clock = clock
        self._stale = max(STALE_SECONDS, 2 * poll_seconds + 5)
        self._lock = threading.Lock()
        self._polled = clock()
        self.stopping = False
        self.running = 0
        self.counts: Counter[str] = Counter()
        """Jobs claimed, attempts by how they ended, children that died, leases reaped."""

    def polled(self) -> None:
        """The ledger has answered."""
        with self._lock:
            self._polled = self._clock()

    def reaped(self, count: int) -> None:
        """Attempts were ended whose lease had lapsed."""
        with self._lock:
            self.counts["reaped"] += count

    def claimed(self, claims: Sequence[Claim]) -> None:
        """Jobs were claimed."""
        with self._lock:
            self.counts["claimed"] += len(claims)

    def ended(self, code: ExitCode) -> None:
        """A child reported an attempt's end."""
        with self._lock:
            self.counts[f"ended_{code.name.lower()}"] += 1

    def died(self) -> None:
        """A child died with an attempt."""
        with self._lock:
            self.counts["died"] += 1

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the worker takes jobs, and its metrics."""
        with self._lock:
            since = self._clock() - self._polled
            metrics = {
                "secondsSincePoll": round(since, 1),
                "running": self.running,
                "stopping": self.stopping,
                **dict(sorted(self.counts.items())),
            }
        return since < self._stale and not self.stopping, metrics
