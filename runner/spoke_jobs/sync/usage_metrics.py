"""Histograms of what attempts used, by type and lane, with a bound on the number of types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import Metric, disable_created_metrics

from spoke_jobs.contract.executors import Lane, lane_of
from spoke_jobs.contract.metrics.application_catalogue import MOST_TYPES
from spoke_jobs.contract.metrics.metric_families import exemplar_labels, live_histogram
from spoke_jobs.contract.metrics.metric_spec import OTHER
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.trace_context import sampled_trace_id_of
from spoke_jobs.ledger.cluster.ended_attempts import EndedAttempt
from spoke_jobs.model import JobOptions
from spoke_jobs.runners.attempt_counts import ObservedAttempt


@dataclass(frozen=True, slots=True)
class Observation:
    """What an attempt adds to the histograms. None: it was not measured, or the job requests nothing."""

    lane: str
    memory_bytes: float | None = None
    memory_ratio: float | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None


def observed(attempt: EndedAttempt) -> Observation:
    """Return what an attempt adds to the histograms. Other code may have written any number: negative ones are none."""
    memory, cpu, wall = (
        value if value is not None and value >= 0 else None
        for value in (
            attempt.usage.peak_memory_bytes,
            attempt.usage.cpu_milliseconds,
            attempt.usage.wall_milliseconds,
        )
    )
    asked = _requested_memory(attempt.options)
    return Observation(
        lane_of(attempt.runner) or Lane.POD,
        memory,
        memory / asked if memory is not None and asked else None,
        cpu / 1000 if cpu is not None else None,
        wall / 1000 if wall is not None else None,
    )


def counted(ended: Iterable[EndedAttempt], *, joined: bool = False) -> Iterator[ObservedAttempt]:
    """Return what sync counts of attempts by type and queue: those in pods. Workers count their own.

    :param joined: whether attempts belong to the traces of their dispatches.
    """
    for attempt in ended:
        if lane_of(attempt.runner) is not Lane.WORKER:
            yield ObservedAttempt(
                attempt.job_type,
                attempt.queue_name,
                str(Lane.POD),
                attempt.organization_id,
                attempt.succeeded,
                attempt.run_seconds,
                attempt.wait_seconds,
                _trace_id(attempt, joined=joined),
            )


def _trace_id(attempt: EndedAttempt, *, joined: bool) -> str:
    """Return the id of an attempt's trace if that is sampled. Nobody records the id of a trace that begins in a pod."""
    return sampled_trace_id_of(attempt.options.traceparent) if joined else ""


def _requested_memory(options: JobOptions) -> float | None:
    """Return the bytes that the job's own option requests. A limit without a request is one, too."""
    given = options.resources
    if not isinstance(given, Mapping):
        return None
    for kind in ("requests", "limits"):
        amounts = given.get(kind)
        amount = in_bytes(str(amounts.get("memory", ""))) if isinstance(amounts, Mapping) else None
        if amount:
            return float(amount)
    return None


class UsageMetrics:
    """The histograms. The loop of the active sync observes, and scrapes read."""

    def __init__(self, most_types: int = MOST_TYPES) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._most_types = most_types
        self._types: set[str] = set()
        self._histograms = {
            "memory_bytes": live_histogram("spoke_sync_attempt_peak_memory_bytes", None),
            "memory_ratio": live_histogram("spoke_sync_attempt_memory_ratio", None),
            "cpu_seconds": live_histogram("spoke_sync_attempt_cpu_seconds", None),
            "wall_seconds": live_histogram("spoke_sync_attempt_wall_seconds", None),
        }

    def observe(self, attempts: Iterable[EndedAttempt], *, joined: bool = False) -> None:
        """Count attempts that have ended.

        :param joined: whether attempts belong to the traces of their dispatches.
        """
        for attempt in attempts:
            found, trace_id = observed(attempt), _trace_id(attempt, joined=joined)
            exemplar = exemplar_labels(trace_id) if trace_id else None
            for name, histogram in self._histograms.items():
                if (value := getattr(found, name)) is not None:
                    histogram.labels(self._type(attempt.job_type), found.lane).observe(value, exemplar)

    def _type(self, name: str) -> str:
        if name not in self._types and len(self._types) >= self._most_types:
            return OTHER
        self._types.add(name)
        return name

    def families(self) -> Iterator[Metric]:
        """Return the histograms for an answer to a scrape."""
        for histogram in self._histograms.values():
            yield from histogram.collect()
