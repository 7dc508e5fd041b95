"""What workers and sync count of ended attempts."""

from __future__ import annotations

from prometheus_client import Metric

from spoke_jobs.contract.metrics.application_catalogue import MOST_COMBINATIONS
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.runners.attempt_counts import AttemptCounts, ObservedAttempt
from spoke_jobs.runners.attempt_metrics import attempt_families


def attempt(
    number: int = 1, *, succeeded: bool = True, wait: float | None = None, **changes: object
) -> ObservedAttempt:
    values: dict[str, object] = {"job_type": f"type{number}", "queue_name": "", "lane": "worker"}
    values |= {"organization_id": number, "succeeded": succeeded, "run_seconds": 2.0, "wait_seconds": wait}
    return ObservedAttempt(**(values | changes))  # type: ignore[arg-type]


def samples(counts: AttemptCounts, name: str) -> dict[tuple[str, ...], float]:
    """The values of a series by those of its labels."""
    families: list[Metric] = list(attempt_families(counts))
    return {
        tuple(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"spoke_worker_{name}"
    }


def test_waits_runs_and_failures_are_counted_by_type_queue_and_lane() -> None:
    counts = AttemptCounts(MetricSource.WORKER)
    counts.observe(attempt(wait_seconds=0.5, queue_name="mail"))
    counts.observe(attempt(succeeded=False, queue_name="mail"))
    labels = ("type1", "mail", "worker")
    assert samples(counts, "job_wait_seconds_sum") == {labels: 0.5}, "the second one was no first attempt"
    assert samples(counts, "job_wait_seconds_bucket")[*labels, "0.5"] == 1
    assert samples(counts, "job_wait_seconds_bucket")[*labels, "0.25"] == 0
    assert samples(counts, "attempt_run_seconds_count") == {labels: 2}
    assert samples(counts, "attempts_failed_total") == {labels: 1}


def test_a_first_failure_is_an_increase() -> None:
    counts = AttemptCounts(MetricSource.WORKER)
    counts.observe(attempt())
    assert samples(counts, "attempts_failed_total") == {("type1", "", "worker"): 0}


def test_the_number_of_series_is_bounded_whatever_the_queues_are_called() -> None:
    counts = AttemptCounts(MetricSource.WORKER)
    for number in range(3 * MOST_COMBINATIONS):
        counts.observe(attempt(1, queue_name=f"{number}:edit"))
    runs = samples(counts, "attempt_run_seconds_count")
    assert len(runs) == MOST_COMBINATIONS + 1
    assert runs["type1", "other", "worker"] == 2 * MOST_COMBINATIONS
    for number in range(3 * MOST_COMBINATIONS):
        counts.observe(attempt(number))
    runs = samples(counts, "attempt_run_seconds_count")
    assert len(runs) == 2 * MOST_COMBINATIONS + 1
    assert runs["other", "other", "worker"] == 2 * MOST_COMBINATIONS
    assert sum(runs.values()) == 6 * MOST_COMBINATIONS


def test_organizations_are_counted_only_if_wanted() -> None:
    counts = AttemptCounts(MetricSource.WORKER)
    counts.observe(attempt(7))
    assert not [family.name for family in attempt_families(counts) if "organization" in family.name]


def test_as_many_organizations_as_wanted_are_counted_apart() -> None:
    counts = AttemptCounts(MetricSource.WORKER, organizations=2)
    for number in (7, 8, 9, 10, 7):
        counts.observe(attempt(number, succeeded=number != 8))
    counts.observe(attempt(organization_id=None))
    ended = {labels: count for labels, count in samples(counts, "organization_attempts_total").items() if count}
    assert ended == {
        ("7", "succeeded"): 2,
        ("8", "failed"): 1,
        ("other", "succeeded"): 2,
        ("none", "succeeded"): 1,
    }
    assert samples(counts, "organization_attempts_total")["7", "failed"] == 0
    assert samples(counts, "organization_run_seconds_total")["7",] == 4.0
