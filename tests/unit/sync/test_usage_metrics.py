"""What attempts used, as histograms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.ledger.cluster.ended_attempts import EndedAttempt
from spoke_jobs.model import AttemptUsage, JobOptions
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.sync.usage_metrics import UsageMetrics, counted, observed

MIB = 2**20
ASKS = JobOptions(resources={"requests": {"memory": "200Mi"}, "limits": {"memory": "400Mi"}})
USED = AttemptUsage(100 * MIB, 250, 2000)


def lines(metrics: UsageMetrics) -> list[str]:
    return Exposition("sync", metrics.families()).text.splitlines()


def values(metrics: UsageMetrics) -> dict[str, float]:
    pairs = (line.rpartition(" ") for line in lines(metrics) if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def test_memory_is_compared_with_what_the_job_requests() -> None:
    metrics = UsageMetrics()
    metrics.observe([EndedAttempt("report", "kubernetes-worker", ASKS, USED)])
    found = values(metrics)
    labels = '{lane="worker",type="report"}'
    assert found[f"spoke_sync_attempt_memory_ratio_sum{labels}"] == 0.5
    assert found[f"spoke_sync_attempt_peak_memory_bytes_sum{labels}"] == 100 * MIB
    assert found[f"spoke_sync_attempt_cpu_seconds_sum{labels}"] == 0.25
    assert found[f"spoke_sync_attempt_wall_seconds_sum{labels}"] == 2.0


@pytest.mark.parametrize(
    ("resources", "ratio"),
    [(None, None), ("auto", None), ({"limits": {"memory": "400Mi"}}, 0.25), ({"requests": {"cpu": "1"}}, None)],
)
def test_a_job_that_requests_no_memory_has_no_ratio(resources: object, ratio: float | None) -> None:
    options = JobOptions(resources=resources)  # type: ignore[arg-type]
    assert observed(EndedAttempt("report", "kubernetes", options, USED)).memory_ratio == ratio


def test_the_number_of_types_is_bounded() -> None:
    metrics = UsageMetrics(most_types=2)
    metrics.observe(EndedAttempt(name, "kubernetes", ASKS, USED) for name in ("a", "b", "c", "d", "a"))
    counts = [line for line in lines(metrics) if line.startswith("spoke_sync_attempt_cpu_seconds_count")]
    assert counts == [
        f'spoke_sync_attempt_cpu_seconds_count{{lane="pod",type="{name}"}} {count}'
        for name, count in (("a", 2.0), ("b", 1.0), ("other", 2.0))
    ]


def test_workers_count_their_attempts_themselves() -> None:
    """Those who read the metrics add those of workers and of sync up."""
    ended = [EndedAttempt("report", runner, ASKS, USED) for runner in ("kubernetes", "kubernetes-worker", "")]
    assert [(attempt.job_type, attempt.lane) for attempt in counted(ended)] == [("report", "pod")] * 2


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("flags", "joined", "found"), [("01", True, TRACE), ("03", True, TRACE), ("00", True, ""), ("01", False, "")]
)
def test_a_pod_s_trace_is_that_of_the_dispatch_if_they_are_joined_and_it_is_sampled(
    flags: str, joined: bool, found: str
) -> None:
    options = JobOptions(traceparent=f"00-{TRACE}-00f067aa0ba902b7-{flags}")
    ended = [EndedAttempt("report", "kubernetes", options, USED, succeeded=True, run_seconds=2.0)]
    assert [attempt.trace_id for attempt in counted(ended, joined=joined)] == [found]
    metrics = UsageMetrics()
    metrics.observe(ended, joined=joined)
    samples = [sample for family in metrics.families() for sample in family.samples]
    exemplars = {sample.name: sample.exemplar.labels for sample in samples if sample.exemplar is not None}
    used = ("peak_memory_bytes", "cpu_seconds", "wall_seconds")
    names = [f"spoke_sync_attempt_{name}_bucket" for name in used]
    assert exemplars == ({name: {"trace_id": TRACE} for name in names} if found else {})


anything = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(st.builds(AttemptUsage, anything, anything, anything), st.text(max_size=9), st.text(max_size=9))
def test_whatever_other_code_has_written_is_counted_or_left_out(usage: AttemptUsage, name: str, runner: str) -> None:
    metrics = UsageMetrics()
    metrics.observe([EndedAttempt(name, runner, ASKS, usage)])
    assert sum(value is not None and value >= 0 for value in (usage.cpu_milliseconds,)) == sum(
        "attempt_cpu_seconds_count{" in line for line in lines(metrics)
    )
