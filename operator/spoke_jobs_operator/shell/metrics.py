"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_CREATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The operator's metrics, on a registry of their own: a test makes as many as it likes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter("spoke_operator_reconciles", "SpokeJobs looked at.", registry=self.registry)
        self.reconcile_seconds = Histogram(
            "spoke_operator_reconcile_seconds", "How long that took, writes included.", registry=self.registry
        )
        self.errors = Counter(
            "spoke_operator_errors", "What failed and is tried again.", ["where"], registry=self.registry
        )
        self.compare_failures = Counter(
            "spoke_operator_compare_failures",
            "Comparisons with the cluster that failed, by namespace.",
            ["namespace"],
            registry=self.registry,
        )
        self.writes = Counter(
            "spoke_operator_writes", "Writes to the API server that it accepted.", ["what"], registry=self.registry
        )
        self.status_unchanged = Counter(
            "spoke_operator_status_writes_unchanged",
            "Status writes that changed nothing: the installed CRD is older than the operator.",
            registry=self.registry,
        )
        self.events = Counter("spoke_operator_events", "Events heard.", ["kind"], registry=self.registry)
        self.queue_depth = Gauge(
            "spoke_operator_queue_depth", "SpokeJobs that wait to be looked at.", registry=self.registry
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
        self.stream_restarts = Counter(
            "spoke_operator_stream_restarts", "Times that the streams had to be started anew.", registry=self.registry
        )
