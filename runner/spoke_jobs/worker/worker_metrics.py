"""Metrics of a worker, for its probe and for Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from spoke_jobs.contract.executors import lane_of
from spoke_jobs.contract.metrics.metric_catalogue import buckets_of
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.columns.clock import waited_seconds
from spoke_jobs.model import Claim
from spoke_jobs.runners.attempt_counts import AttemptCounts, ObservedAttempt
from spoke_jobs.shared.histogram import Histogram

STALE_SECONDS = 30.0
"""A worker is unhealthy if its database has not answered for this long."""
_SUCCEEDS = {ExitCode.DONE: True, ExitCode.FAILED: False, ExitCode.FAILED_FOR_GOOD: False}
"""Whether an attempt with this end has succeeded. Attempts with other ends did not run, or go on elsewhere."""


def claimed_attempt(claim: Claim) -> ObservedAttempt:
    """Return what a claim says of its attempt, to be counted at its end."""
    job = claim.job
    waited = None
    if claim.number == 1 and job.run == 1 and claim.due_at is not None and job.started_at is not None:
        waited = waited_seconds(claim.due_at, job.started_at)
    lane = str(lane_of(job.runner) or "")
    return ObservedAttempt(job.job_type, job.queue_name, lane, job.organization_id, False, wait_seconds=waited)


class WorkerMetrics:
    """Counters that the supervisor writes and the HTTP endpoint's threads read.

    :param organizations: how many organizations have metrics of their own.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, poll_seconds: float = 0.0, organizations: int = 0
    ) -> None:
        self._clock = clock
        self._stale = max(STALE_SECONDS, 2 * poll_seconds + 5)
        self._lock = threading.Lock()
        self._polled = clock()
        self.stopping = False
        self.running = 0
        self.held_back_types = 0
        self.counts: Counter[str] = Counter()
        """Claimed jobs, attempts by exit code, children that exited with an attempt, reaped attempts, and errors."""
        self.attempts = AttemptCounts(MetricSource.WORKER, organizations)
        self.schedule_lag = Histogram(buckets_of("spoke_worker_schedule_lag_seconds"))
        """How late this worker has dispatched the jobs of schedules."""

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

    def ran(self, attempt: ObservedAttempt | None, code: ExitCode, seconds: float, trace_id: str = "") -> None:
        """Count how long an attempt waited and ran, unless it did not run.

        :param attempt: what its claim said; None if that is not known.
        :param trace_id: its trace, if that is sampled.
        """
        succeeds = _SUCCEEDS.get(code)
        if attempt is not None and succeeds is not None:
            self.attempts.observe(replace(attempt, succeeded=succeeds, run_seconds=seconds, trace_id=trace_id))

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
                "heldBackTypes": self.held_back_types,
                "stopping": self.stopping,
                **dict(sorted(self.counts.items())),
            }
        return since < self._stale and not self.stopping, metrics
