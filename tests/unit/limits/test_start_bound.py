"""How many attempts start in any window, if each starts within a time after the claim that took its token."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fullest_window import excess, most_in

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
ROUNDING = 1e-6
RATES = st.builds(Rate, st.integers(1, 40), st.sampled_from((1, 3, 60)), st.integers(1, 8))
CLAIMS = st.tuples(
    st.lists(
        st.tuples(st.sampled_from((0, 0, 0.3, 1, 1, 1)), st.sampled_from((0, 0, 0.5, 1))), min_size=9, max_size=40
    ),
    st.integers(0, 20),
)
"""For each claim that is tried: the time since the last one, in intervals, and which part of its time a start takes.
And how many of the first starts take all their time."""


def starts(rate: Rate, claims: tuple[list[tuple[float, float]], int]) -> list[float]:
    """When the attempts start, in seconds: as late as may be, or sooner."""
    tried, slow = claims
    full_at, now, found = None, EPOCH, list[float]()
    for gap, part in tried:
        part = 1.0 if len(found) < slow else part
        now += timedelta(microseconds=math.ceil(gap * rate.interval))
        if not rate.wait(full_at, now):
            full_at = rate.started(full_at, now)
            found.append((now - EPOCH).total_seconds() + part * rate.start_seconds)
    return sorted(found)


@given(RATES, CLAIMS)
def test_any_window_has_at_most_the_burst_and_what_the_rate_gives_in_it_and_in_the_time_of_a_start(
    rate: Rate, claims: tuple[list[tuple[float, float]], int]
) -> None:
    assert excess(starts(rate, claims), rate, rate.start_seconds) <= ROUNDING


@given(RATES.filter(lambda rate: rate.count <= 5 * rate.seconds), CLAIMS, st.integers(1, 20))
def test_a_window_of_whole_intervals_has_at_most_the_burst_and_its_tokens(
    rate: Rate, claims: tuple[list[tuple[float, float]], int], intervals: int
) -> None:
    seconds = intervals * rate.interval / 1_000_000
    assert most_in(starts(rate, claims), seconds) <= rate.burst + intervals


@pytest.mark.parametrize(
    ("rate", "seconds"), [("5/s", 0.15), ("100/min", 0.45), ("1/h", 2700), ("20/s", 0.15), ("10000/s", 0.15)]
)
def test_a_worker_has_three_quarters_of_an_interval_to_start_an_attempt(rate: str, seconds: float) -> None:
    assert Rate.parse(rate).start_seconds == pytest.approx(seconds)


def test_of_several_rates_the_shortest_time_counts_and_without_a_rate_a_job_has_any() -> None:
    bounds = {"type:mail": Bounds(rate=Rate(1, 1)), "all": Bounds(max_running=9), "queue:slow": Bounds(rate=Rate(1, 2))}
    bounds |= {"each-type": Bounds(rate=Rate(1, 60)), "type:other": Bounds(max_running=3)}
    limits = LimitSet(
        JobLimit(parse_scope(scope), id=number, bounds=given) for number, (scope, given) in enumerate(bounds.items())
    )
    admission = Admission(limits, {}, EPOCH, asked_at=100.0)
    assert admission.start_by(Subject("mail", "slow", None)) == 100.75
    assert admission.start_by(Subject("report", "slow", None)) == 101.5
    assert admission.start_by(Subject("other", "", None)) == 145.0
    assert admission.start_by(Subject("", "", None)) == math.inf, "a job without a type takes no token of other types"
