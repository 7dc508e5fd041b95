"""Count ended attempts: how long they waited and ran, and how many failed.

Nothing here imports Prometheus' library, which is slow to import. :mod:`.attempt_metrics` makes metrics of the counts.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from spoke_jobs.contract.metrics.application_catalogue import MOST_COMBINATIONS
from spoke_jobs.contract.metrics.bounded_labels import BoundedLabels
from spoke_jobs.contract.metrics.metric_catalogue import buckets_of
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.shared.histogram import Histogram

NO_ORGANIZATION = "none"
SUCCEEDED, FAILED = "succeeded", "failed"
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """An attempt that has ended."""

    job_type: str
    queue_name: str
    lane: str
    """Empty if the runner has no lanes."""
    organization_id: int | None
    succeeded: bool
    run_seconds: float | None = None
    """None if that is unknown."""
    wait_seconds: float | None = None
    """How long the job waited for its first attempt; None for a later one, or if that is unknown."""
    trace_id: str = ""
    """Its trace, if that is sampled."""


@dataclass(frozen=True, slots=True)
class AttemptFigures:
    """The counts at one time, by type, queue and lane."""

    waits: dict[Labels, Histogram]
    runs: dict[Labels, Histogram]
    failed: dict[Labels, int]
    by_organization: dict[Labels, int]
    """By organization and outcome."""
    organization_seconds: dict[Labels, float]


class AttemptCounts:
    """The counts. One thread observes, and those of scrapes read.

    :param organizations: how many organizations are counted apart; 0: none is.
    """

    def __init__(self, source: MetricSource, organizations: int = 0) -> None:
        self.source = source
        self.organizations = organizations
        self._lock = threading.Lock()
        self._labels = BoundedLabels(MOST_COMBINATIONS)
        self._organizations = BoundedLabels(organizations)
        self._wait_bounds = buckets_of(f"spoke_{source}_job_wait_seconds")
        self._run_bounds = buckets_of(f"spoke_{source}_attempt_run_seconds")
        self._waits: dict[Labels, Histogram] = {}
        self._runs: dict[Labels, Histogram] = {}
        self._failed: Counter[Labels] = Counter()
        self._by_organization: Counter[Labels] = Counter()
        self._organization_seconds: dict[Labels, float] = {}

    def observe(self, attempt: ObservedAttempt) -> None:
        """Count an attempt that has ended."""
        with self._lock:
            labels = (*self._labels.of(attempt.job_type, attempt.queue_name), attempt.lane)
            if attempt.wait_seconds is not None:
                waits = self._waits.setdefault(labels, Histogram(self._wait_bounds))
                waits.observe(attempt.wait_seconds, attempt.trace_id)
            if attempt.run_seconds is not None:
                runs = self._runs.setdefault(labels, Histogram(self._run_bounds))
                runs.observe(attempt.run_seconds, attempt.trace_id)
            self._failed[labels] += not attempt.succeeded
            if self.organizations:
                self._count_organization(attempt)

    def _count_organization(self, attempt: ObservedAttempt) -> None:
        number = attempt.organization_id
        labels = (NO_ORGANIZATION,) if number is None else self._organizations.of(str(number))
        for outcome in (SUCCEEDED, FAILED):
            self._by_organization[*labels, outcome] += attempt.succeeded == (outcome == SUCCEEDED)
        seconds = self._organization_seconds.get(labels, 0.0)
        self._organization_seconds[labels] = seconds + (attempt.run_seconds or 0.0)

    def figures(self) -> AttemptFigures:
        """Return a copy of the counts."""
        with self._lock:
            return AttemptFigures(
                {labels: found.copy() for labels, found in self._waits.items()},
                {labels: found.copy() for labels, found in self._runs.items()},
                dict(self._failed),
                dict(self._by_organization),
                dict(self._organization_seconds),
            )
