"""The operator's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from spoke_jobs_operator.core.reporting.job_counts import LabelValues

from .job_metrics import JobMetrics

_QUEUE_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120)
_STANDBY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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
    """

    def __init__(self, labels: Sequence[str] = (), label_limit: int = 50) -> None:
        # A second series for each counter and histogram, which nothing reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.jobs = JobMetrics(self.registry, LabelValues(labels, label_limit))
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
        self.events_sent = Counter(
            "spoke_operator_kubernetes_events", "Kubernetes Events sent, by type.", ["type"], registry=self.registry
        )
        self.events_dropped = Counter(
            "spoke_operator_kubernetes_events_dropped",
            "Kubernetes Events that were not sent: beyond the rate, the queue was full, or the call failed.",
            ["reason"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "spoke_operator_queue_depth", "SpokeJobs that wait to be reconciled.", registry=self.registry
        )
        self.queue_seconds = Histogram(
            "spoke_operator_queue_seconds",
            "How long a SpokeJob waits until it is reconciled.",
            buckets=_QUEUE_BUCKETS,
            registry=self.registry,
        )
        self.adopted = Counter(
            "spoke_operator_jobs_adopted", "Jobs of an earlier leader or process that were adopted.",
            registry=self.registry,
        )  # fmt: skip
        self.pending = Gauge(
            "spoke_operator_pods_pending",
            "Pods of attempts that have no node yet, or that their node is starting.",
            registry=self.registry,
        )
        self.without_room = Gauge(
            "spoke_operator_pods_without_room",
            "Pods of attempts for which no node has room.",
            registry=self.registry,
        )
        self.standby_pods = Gauge(
            "spoke_operator_standby_pods",
            "Standby pods, by namespace and state: starting, free, or assigned (with an attempt).",
            ["namespace", "state"],
            registry=self.registry,
        )
        self.standby_attempts = Counter(
            "spoke_operator_standby_attempts",
            "Attempts of the lane standby, by namespace and result: hit if a standby pod got it, else why not.",
            ["namespace", "result"],
            registry=self.registry,
        )
        self.standby_seconds = Histogram(
            "spoke_operator_standby_seconds",
            "Seconds from the assignment of an attempt to a standby pod until the pod accepted it.",
            buckets=_STANDBY_BUCKETS,
            registry=self.registry,
        )
        self.undiagnosable = Counter(
            "spoke_operator_undiagnosable",
            "SpokeJobs that ended as Undiagnosable, because each decision about them raised an error.",
            registry=self.registry,
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
        for where in Where:
            self.errors.labels(where)
        for drop in EventDrop:
            self.events_dropped.labels(drop)
