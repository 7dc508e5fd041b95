"""The metrics of SpokeJobs by namespace, for a platform with many tenants."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.limit_scopes import EACH_FORMS
from spoke_jobs.contract.spokejob import Outcome, SpokeJob
from spoke_jobs_operator.core.reporting.job_counts import (
    Labels,
    LabelValues,
    count_jobs,
    limit_uses,
    paused_scopes,
    rate_uses,
)
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.store.store import Store

_START_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_RUN_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
OTHER_CAUSE = "Other"
"""The label's value for causes that this release does not know."""
IDLE_SECONDS = 3600.0
"""How long the series of a namespace are kept after its last SpokeJob is gone."""


class JobMetrics(Collector):
    """Counters and histograms of what happened to SpokeJobs, and gauges of those that are unfinished.

    Only the leader reports gauges, so that a sum over all replicas counts nothing twice.

    :param values: chooses the labels.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry, values: LabelValues, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._values = values
        self._clock = clock
        self._used: defaultdict[str, set[tuple[Any, Labels]]] = defaultdict(set)
        self._seen_at: dict[str, float] = {}
        self._source: tuple[Store, Pacer, Callable[[], bool], Callable[[], datetime]] | None = None
        registry.register(self)  # first: it initializes the counters that a scrape collects after it
        names = values.names
        self._finished = Counter(
            "spoke_operator_jobs_finished",
            "SpokeJobs that became final, by namespace, outcome and cause.",
            [*names, "outcome", "cause"],
            registry=registry,
        )
        self._attempts_failed = Counter(
            "spoke_operator_attempts_failed",
            "Attempts that failed, by namespace and cause.",
            [*names, "cause"],
            registry=registry,
        )
        self._creation_seconds = Histogram(
            "spoke_operator_job_creation_seconds",
            "From a SpokeJob's creation to the creation of its first Job, by namespace.",
            names,
            buckets=_START_BUCKETS,
            registry=registry,
        )
        self._start_seconds = Histogram(
            "spoke_operator_job_start_seconds",
            "From a SpokeJob's creation until its first attempt is observed running, by namespace.",
            names,
            buckets=_START_BUCKETS,
            registry=registry,
        )
        self._run_seconds = Histogram(
            "spoke_operator_attempt_run_seconds",
            "How long an attempt's container ran, by namespace.",
            names,
            buckets=_RUN_BUCKETS,
            registry=registry,
        )

    def watch(self, store: Store, pacer: Pacer, leads: Callable[[], bool], now: Callable[[], datetime]) -> None:
        """Set the objects that each scrape counts."""
        self._source = (store, pacer, leads, now)

    def finished(self, spokejob: SpokeJob, outcome: Outcome, cause: str) -> None:
        """Count a SpokeJob that became final."""
        self._child(self._finished, (*self._values.of(spokejob), outcome.value, _label(cause))).inc()

    def unreadable_finished(self, namespace: str, cause: str) -> None:
        """Count an unreadable SpokeJob that became final."""
        self._child(self._finished, (*self._values.other(namespace), Outcome.FAILED.value, _label(cause))).inc()

    def attempt_failed(self, spokejob: SpokeJob, cause: str) -> None:
        """Count a failed attempt."""
        self._child(self._attempts_failed, (*self._values.of(spokejob), _label(cause))).inc()

    def created(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe the time to a SpokeJob's first Job."""
        self._child(self._creation_seconds, self._values.of(spokejob)).observe(seconds)

    def started(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe the time until a SpokeJob's first attempt ran."""
        self._child(self._start_seconds, self._values.of(spokejob)).observe(seconds)

    def ran(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe how long an attempt ran."""
        self._child(self._run_seconds, self._values.of(spokejob)).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Count the unfinished SpokeJobs, for a scrape."""
        if self._source is None:
            return
        store, pacer, leads, now = self._source
        present = {item.namespace if isinstance(item, SpokeJob) else item.key.namespace for item in store.spokejobs}
        self._forget_idle(present)
        for namespace in present:
            self._initialize(namespace)
        if leads():
            yield from self._gauges(store, pacer, now())

    def _gauges(self, store: Store, pacer: Pacer, now: datetime) -> Iterator[Metric]:
        names = self._values.names
        counts = count_jobs(store.unfinished(), pacer.has_place, self._values.of)
        running = GaugeMetricFamily(
            "spoke_operator_attempts_running",
            "SpokeJobs with a running or starting attempt, by namespace.",
            labels=names,
        )
        oldest_running = GaugeMetricFamily(
            "spoke_operator_oldest_running_seconds",
            "Seconds since the oldest running attempt began, by namespace.",
            labels=names,
        )
        for labels, count in sorted(counts.running.items()):
            running.add_metric(labels, count)
            oldest_running.add_metric(labels, _seconds(counts.oldest_running[labels], now))
        reasons = [*names, "reason"]
        waiting = GaugeMetricFamily(
            "spoke_operator_waiting", "Waiting SpokeJobs, by namespace and reason.", labels=reasons
        )
        oldest_waiting = GaugeMetricFamily(
            "spoke_operator_oldest_waiting_seconds",
            "Seconds that the oldest waiting SpokeJob has waited, since its creation or its last attempt, by namespace "
            "and reason.",
            labels=reasons,
        )
        for waits, count in sorted(counts.waiting.items()):
            waiting.add_metric([*waits.labels, waits.reason], count)
            since = counts.oldest_waiting[waits]
            oldest_waiting.add_metric([*waits.labels, waits.reason], _seconds(since, now))
        limit = GaugeMetricFamily(
            "spoke_operator_limit",
            "The most attempts at a time, by namespace and scope. The limit of all namespaces has an empty namespace.",
            labels=["namespace", "scope"],
        )
        used = GaugeMetricFamily(
            "spoke_operator_limit_used",
            f"Attempts that count towards the limit, by namespace and scope. For {EACH_FORMS}: of the busiest one.",
            labels=["namespace", "scope"],
        )
        namespaces = {labels[0] for labels in counts.running} | {waits.labels[0] for waits in counts.waiting}
        for use in limit_uses(pacer.limits, pacer.usage, namespaces):
            limit.add_metric([use.namespace, use.scope], use.limit)
            used.add_metric([use.namespace, use.scope], use.used)
        rate = GaugeMetricFamily(
            "spoke_operator_rate_per_second",
            "How many attempts may start in a second on average, by namespace and scope.",
            labels=["namespace", "scope"],
        )
        tokens = GaugeMetricFamily(
            "spoke_operator_rate_tokens",
            "How many attempts may start now under the rate, by namespace and scope. For each-queue and the like: of "
            "the one that has the fewest.",
            labels=["namespace", "scope"],
        )
        for rated in rate_uses(pacer.limits, pacer.usage.rates):
            rate.add_metric([rated.namespace, rated.scope], rated.per_second)
            tokens.add_metric([rated.namespace, rated.scope], rated.tokens)
        paused = GaugeMetricFamily(
            "spoke_operator_paused",
            "1 for each scope in which no attempt starts, by namespace, scope, object or setting, and who set it.",
            labels=["namespace", "scope", "source", "by"],
        )
        for item in paused_scopes(pacer.limits):
            paused.add_metric([item.namespace, item.scope, item.pause.source, item.pause.by], 1)
        yield from (running, oldest_running, waiting, oldest_waiting, limit, used, rate, tokens, paused)

    def _initialize(self, namespace: str) -> None:
        """Initialize a namespace's counters to 0 so that `increase()` sees the first event.

        With the labels type or queue there would be too many series; each then begins with its first event.
        """
        if len(self._values.names) > 1:
            return
        self._child(self._finished, (namespace, Outcome.SUCCEEDED.value, ""))
        for cause in (*CAUSES, OTHER_CAUSE):
            self._child(self._finished, (namespace, Outcome.FAILED.value, cause))

    def _child(self, metric: Any, labels: Labels) -> Any:
        self._used[labels[0]].add((metric, labels))
        return metric.labels(*labels)

    def _forget_idle(self, present: set[str]) -> None:
        now = self._clock()
        self._seen_at.update(dict.fromkeys(present, now))
        for namespace in list(self._used):
            if now - self._seen_at.setdefault(namespace, now) > IDLE_SECONDS:
                for metric, labels in self._used.pop(namespace):
                    metric.remove(*labels)
                self._values.forget(namespace)
                del self._seen_at[namespace]


def _label(cause: str) -> str:
    """Return the label's value: pods choose the names of causes, and each name would be a series."""
    return cause if cause in CAUSES or not cause else OTHER_CAUSE


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
