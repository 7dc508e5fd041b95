"""The operator's metrics for Prometheus."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterator
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.spokejob import Outcome

_QUEUE_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120)
_CREATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Where(StrEnum):
    """Where a retried error happened."""

    RECONCILE = "reconcile"
    COMPARE = "compare"


class OperatorMetrics:
    """The metrics. Each instance has its own registry, so that tests can create several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter("spoke_operator_reconciles", "SpokeJobs reconciled.", registry=self.registry)
        self.reconcile_seconds = Histogram(
            "spoke_operator_reconcile_seconds",
            "How long one reconcile took, including its writes.",
            registry=self.registry,
        )
        self.errors = Counter("spoke_operator_errors", "Failures that are retried.", ["where"], registry=self.registry)
        self.compare_failures = Counter(
            "spoke_operator_compare_failures",
            "Comparisons with the cluster that failed, by namespace.",
            ["namespace"],
            registry=self.registry,
        )
        self.writes = Counter(
            "spoke_operator_writes", "Writes that the API server accepted.", ["what"], registry=self.registry
        )
        self.status_unchanged = Counter(
            "spoke_operator_status_writes_unchanged",
            "Status writes that changed nothing: the installed CRD is older than the operator.",
            registry=self.registry,
        )
        self.events = Counter("spoke_operator_events", "Events received.", ["kind"], registry=self.registry)
        self.queue_depth = Gauge(
            "spoke_operator_queue_depth", "SpokeJobs that wait to be reconciled.", registry=self.registry
        )
        self.finished = Counter(
            "spoke_operator_jobs_finished",
            "SpokeJobs that became final, by outcome and cause.",
            ["outcome", "cause"],
            registry=self.registry,
        )
        self.attempts_failed = Counter(
            "spoke_operator_attempts_failed", "Attempts that failed, by cause.", ["cause"], registry=self.registry
        )
        self.creation_seconds = Histogram(
            "spoke_operator_job_creation_seconds",
            "From a SpokeJob's creation to the creation of its first Job.",
            buckets=_CREATION_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "spoke_operator_queue_seconds",
            "How long a SpokeJob waits until it is reconciled.",
            buckets=_QUEUE_BUCKETS,
            registry=self.registry,
        )
        self.start_seconds = Histogram(
            "spoke_operator_job_start_seconds",
            "From a SpokeJob's creation until its first attempt is observed running.",
            buckets=_CREATION_BUCKETS,
            registry=self.registry,
        )
        self.adopted = Counter(
            "spoke_operator_jobs_adopted", "Jobs of an earlier leader or process that were adopted.",
            registry=self.registry,
        )  # fmt: skip
        self.running = Gauge(
            "spoke_operator_attempts_running", "SpokeJobs with a running or starting attempt.", registry=self.registry
        )
        self.leads = Gauge("spoke_operator_leads", "1 while this replica leads.", registry=self.registry)
        self.throttled = Counter(
            "spoke_operator_throttled",
            "Answers 429 of the API server.",
            registry=self.registry,
        )
        self.stream_restarts = Counter(
            "spoke_operator_stream_restarts", "Restarts of the event streams.", registry=self.registry
        )
        self._initialize()

    def _initialize(self) -> None:
        """Initialize counters to 0 so that `increase()` sees the first event."""
        self.finished.labels(Outcome.SUCCEEDED.value, "")
        for cause in CAUSES:
            self.finished.labels(Outcome.FAILED.value, cause)
        for where in Where:
            self.errors.labels(where)

    def count_waiting(self, reasons: Callable[[], Iterator[str]]) -> None:
        """Count the waiting SpokeJobs by reason at each scrape."""
        self.registry.register(_Waiting(reasons))


class _Waiting(Collector):
    def __init__(self, reasons: Callable[[], Iterator[str]]) -> None:
        self._reasons = reasons

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("spoke_operator_waiting", "Waiting SpokeJobs, by reason.", labels=["reason"])
        for reason, count in sorted(Count(self._reasons()).items()):
            family.add_metric([reason], count)
        yield family
