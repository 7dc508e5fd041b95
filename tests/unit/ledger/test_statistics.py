"""Percentiles of durations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.contract.ledger import present

from spoke_jobs.ledger.reading.statistics import Durations


def test_of_none_there_are_none() -> None:
    assert Durations.of([]) is None
    assert Durations.of([3.0]) == Durations(3.0, 3.0)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200))
def test_each_is_a_value_with_that_part_of_the_others_below(values: list[int]) -> None:
    found = present(Durations.of(values))
    for part, value in ((0.5, found.p50), (0.95, found.p95)):
        assert value in values
        assert sum(one <= value for one in values) >= part * len(values)
        assert sum(one < value for one in values) <= part * len(values)
    assert found.p50 <= max(values)
