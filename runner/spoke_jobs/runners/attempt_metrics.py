"""Metrics of ended attempts, which workers and sync report: each of them those that it has seen end."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_families import counter, histogram
from spoke_jobs.runners.attempt_counts import AttemptCounts


def attempt_families(counts: AttemptCounts) -> Iterator[Metric]:
    """Return the metrics; those by organization only if they are wanted."""
    found, source = counts.figures(), counts.source
    yield histogram(f"spoke_{source}_job_wait_seconds", found.waits)
    yield histogram(f"spoke_{source}_attempt_run_seconds", found.runs)
    failed = counter(f"spoke_{source}_attempts_failed")
    for labels, count in found.failed.items():
        failed.add_metric(labels, count)
    yield failed
    if not counts.organizations:
        return
    attempts = counter(f"spoke_{source}_organization_attempts")
    for labels, count in found.by_organization.items():
        attempts.add_metric(labels, count)
    seconds = counter(f"spoke_{source}_organization_run_seconds")
    for labels, total in found.organization_seconds.items():
        seconds.add_metric(labels, round(total, 6))
    yield from (attempts, seconds)
