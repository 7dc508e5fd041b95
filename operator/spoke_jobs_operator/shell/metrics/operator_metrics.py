"""The operator's metrics for Prometheus. What each of them says is in the catalogue (`spoke_jobs.contract.metrics`)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from prometheus_client import CollectorRegistry, disable_created_metrics

from spoke_jobs.contract.metrics.metric_families import live_counter, live_gauge, live_histogram
from spoke_jobs_operator.core.reporting.job_counts import LabelValues

from .job_metrics import JobMetrics


class Where(StrEnum):
    """Where a retried error happened."""

    RECONCILE = "reconcile"
    COMPARE = "compare"
    STORE = "store"
    """An object of the cluster could not be stored."""
    ADMIT = "admit"
    LIMITS = "limits"
    PUBLISH = "publish"


class EventDrop(StrEnum):
    """Why a Kubernetes Event was not sent."""

    RATE = "rate"
    QUEUE = "queue"
    FAILURE = "failure"


class OperatorMetrics:
    """The metrics. Each instance has its own registry, so that tests can create several.

    :param labels: the labels of SpokeJobs' metrics besides the namespace: "type", "queue".
    :param label_limit: the most combinations of their values in each namespace.
    :param traced: whether the operator makes spans in the traces of jobs.
    """

    def __init__(self, labels: Sequence[str] = (), label_limit: int = 50, *, traced: bool = False) -> None:
        # A second series for each counter and histogram, which nothing reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.jobs = JobMetrics(self.registry, LabelValues(labels, label_limit), traced=traced)
        self.reconciles = live_counter("spoke_operator_reconciles", self.registry)
        self.reconcile_seconds = live_histogram("spoke_operator_reconcile_seconds", self.registry)
        self.errors = live_counter("spoke_operator_errors", self.registry)
        self.compare_failures = live_counter("spoke_operator_compare_failures", self.registry)
        self.writes = live_counter("spoke_operator_writes", self.registry)
        self.status_unchanged = live_counter("spoke_operator_status_writes_unchanged", self.registry)
        self.events = live_counter("spoke_operator_events", self.registry)
        self.events_sent = live_counter("spoke_operator_kubernetes_events", self.registry)
        self.events_dropped = live_counter("spoke_operator_kubernetes_events_dropped", self.registry)
        self.queue_depth = live_gauge("spoke_operator_queue_depth", self.registry)
        self.queue_seconds = live_histogram("spoke_operator_queue_seconds", self.registry)
        self.adopted = live_counter("spoke_operator_jobs_adopted", self.registry)
        self.pending = live_gauge("spoke_operator_pods_pending", self.registry)
        self.without_room = live_gauge("spoke_operator_pods_without_room", self.registry)
        self.standby_pods = live_gauge("spoke_operator_standby_pods", self.registry)
        self.standby_seconds = live_histogram("spoke_operator_standby_seconds", self.registry)
        self.undiagnosable = live_counter("spoke_operator_undiagnosable", self.registry)
        self.leads = live_gauge("spoke_operator_leads", self.registry)
        self.throttled = live_counter("spoke_operator_throttled", self.registry)
        self.stream_restarts = live_counter("spoke_operator_stream_restarts", self.registry)
        self._initialize()

    def _initialize(self) -> None:
        """Initialize counters to 0 so that `increase()` sees the first event."""
        for where in Where:
            self.errors.labels(where)
        for drop in EventDrop:
            self.events_dropped.labels(drop)
