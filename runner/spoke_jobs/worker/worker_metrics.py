"""Metrics of a worker, for its probe and for Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.model import Claim

STALE_SECONDS = 30.0
"""A worker is unhealthy if its database has not answered for this long."""


class WorkerMetrics:
    """Counters that the supervisor writes and the HTTP endpoint's threads read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, poll_seconds: float = 0.0) -> None:
        self._clock = clock
        self._stale = max(STALE_SECONDS, 2 * poll_seconds + 5)
        self._lock = threading.Lock()
        self._polled = clock()
        self.stopping = False
        self.running = 0
        self.counts: Counter[str] = Counter()
        """Claimed jobs, attempts by exit code, children that exited with an attempt, reaped attempts, and errors."""

    def polled(self) -> None:
        """Record that the ledger has answered."""
        with self._lock:
            self._polled = self._clock()

    def reaped(self, count: int) -> None:
        """Count attempts whose lease had lapsed."""
        with self._lock:
            self.counts["reaped"] += count

    def claimed(self, claims: Sequence[Claim]) -> None:
        """Count claimed jobs."""
        with self._lock:
            self.counts["claimed"] += len(claims)

    def ended(self, code: ExitCode) -> None:
        """Count an attempt's end that a child reported."""
        with self._lock:
            self.counts[f"ended_{code.name.lower()}"] += 1

    def failed(self) -> None:
        """Count an unexpected error that the worker contained."""
        with self._lock:
            self.counts["unexpected_errors"] += 1

    def died(self) -> None:
        """Count a child that exited while running an attempt."""
        with self._lock:
            self.counts["died"] += 1

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the worker is healthy, and its counters."""
        with self._lock:
            since = self._clock() - self._polled
            metrics = {
                "secondsSincePoll": round(since, 1),
                "running": self.running,
                "stopping": self.stopping,
                **dict(sorted(self.counts.items())),
            }
        return since < self._stale and not self.stopping, metrics
