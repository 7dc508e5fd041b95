"""The metrics of SpokeJobs by namespace, for a platform with many tenants."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.registry import Collector

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.metrics.metric_families import exemplar_labels, gauge, live_counter, live_histogram
from spoke_jobs.contract.trace_context import sampled_trace_id_of
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

OTHER_CAUSE = "Other"
"""The label's value for causes that this release does not know."""
IDLE_SECONDS = 3600.0
"""How long the series of a namespace are kept after its last SpokeJob is gone."""


class JobMetrics(Collector):
    """Counters and histograms of what happened to SpokeJobs, and gauges of those that are unfinished.

    Only the leader reports gauges, so that a sum over all replicas counts nothing twice.

    :param values: chooses the labels.
    :param clock: the monotonic clock, in seconds.
    :param traced: whether the operator makes spans in the traces of jobs.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        values: LabelValues,
        clock: Callable[[], float] = time.monotonic,
        *,
        traced: bool = False,
    ) -> None:
        self._traced = traced
        self._values = values
        self._clock = clock
        self._used: defaultdict[str, set[tuple[Any, Labels]]] = defaultdict(set)
        self._seen_at: dict[str, float] = {}
        self._source: tuple[Store, Pacer, Callable[[], bool], Callable[[], datetime]] | None = None
        registry.register(self)  # first: it initializes the counters that a scrape collects after it
        wanted = values.names
        self._finished = live_counter("spoke_operator_jobs_finished", registry, wanted)
        self._attempts_failed = live_counter("spoke_operator_attempts_failed", registry, wanted)
        self._standby_attempts = live_counter("spoke_operator_standby_attempts", registry)
        self._creation_seconds = live_histogram("spoke_operator_job_creation_seconds", registry, wanted)
        self._start_seconds = live_histogram("spoke_operator_job_start_seconds", registry, wanted)
        self._run_seconds = live_histogram("spoke_operator_attempt_run_seconds", registry, wanted)

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

    def standby_attempt(self, namespace: str, result: str) -> None:
        """Count an attempt of the lane `standby`."""
        self._child(self._standby_attempts, (namespace, result)).inc()

    def created(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe the time to a SpokeJob's first Job."""
        self._observe(self._creation_seconds, spokejob, seconds)

    def started(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe the time until a SpokeJob's first attempt ran."""
        self._observe(self._start_seconds, spokejob, seconds)

    def ran(self, spokejob: SpokeJob, seconds: float) -> None:
        """Observe how long an attempt ran."""
        self._observe(self._run_seconds, spokejob, seconds)

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
        wanted = self._values.names
        counts = count_jobs(store.unfinished(), pacer.has_place, self._values.of)
        running = gauge("spoke_operator_attempts_running", wanted=wanted)
        oldest_running = gauge("spoke_operator_oldest_running_seconds", wanted=wanted)
        for labels, count in sorted(counts.running.items()):
            running.add_metric(labels, count)
            oldest_running.add_metric(labels, _seconds(counts.oldest_running[labels], now))
        waiting = gauge("spoke_operator_waiting", wanted=wanted)
        oldest_waiting = gauge("spoke_operator_oldest_waiting_seconds", wanted=wanted)
        for waits, count in sorted(counts.waiting.items()):
            waiting.add_metric([*waits.labels, waits.reason], count)
            since = counts.oldest_waiting[waits]
            oldest_waiting.add_metric([*waits.labels, waits.reason], _seconds(since, now))
        yield from (running, oldest_running, waiting, oldest_waiting)
        namespaces = {labels[0] for labels in counts.running} | {waits.labels[0] for waits in counts.waiting}
        yield from _of_limits(pacer, namespaces)

    def _initialize(self, namespace: str) -> None:
        """Initialize a namespace's counters to 0 so that `increase()` sees the first event.

        With the labels type or queue there would be too many series; each then begins with its first event.
        """
        if len(self._values.names) > 1:
            return
        self._child(self._finished, (namespace, Outcome.SUCCEEDED.value, ""))
        for cause in (*CAUSES, OTHER_CAUSE):
            self._child(self._finished, (namespace, Outcome.FAILED.value, cause))

    def _observe(self, histogram: Histogram, spokejob: SpokeJob, seconds: float) -> None:
        trace_id = sampled_trace_id_of(spokejob.spec.traceparent) if self._traced else ""
        exemplar = exemplar_labels(trace_id) if trace_id else None
        self._child(histogram, self._values.of(spokejob)).observe(seconds, exemplar)

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


def _of_limits(pacer: Pacer, namespaces: Iterable[str]) -> Iterator[Metric]:
    limit, used = gauge("spoke_operator_limit"), gauge("spoke_operator_limit_used")
    for use in limit_uses(pacer.limits, pacer.usage, namespaces):
        limit.add_metric([use.namespace, use.scope], use.limit)
        used.add_metric([use.namespace, use.scope], use.used)
    rate, tokens = gauge("spoke_operator_rate_per_second"), gauge("spoke_operator_rate_tokens")
    for rated in rate_uses(pacer.limits, pacer.usage.rates):
        rate.add_metric([rated.namespace, rated.scope], rated.per_second)
        tokens.add_metric([rated.namespace, rated.scope], rated.tokens)
    paused = gauge("spoke_operator_paused")
    for item in paused_scopes(pacer.limits):
        paused.add_metric([item.namespace, item.scope, item.pause.source, item.pause.by], 1)
    yield from (limit, used, rate, tokens, paused)
