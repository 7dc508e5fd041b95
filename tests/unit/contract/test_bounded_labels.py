"""The bound on the values of labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.metrics.bounded_labels import BoundedLabels
from spoke_jobs.contract.metrics.metric_spec import OTHER

values = st.text("abc", max_size=2)


@given(st.integers(0, 4), st.lists(st.tuples(values, values)))
def test_there_are_never_more_than_the_bound_allows_and_the_same_values_stay_together(
    most: int, given: list[tuple[str, str]]
) -> None:
    labels = BoundedLabels(most)
    first = {pair: labels.of(*pair) for pair in given}
    assert len(set(first.values())) <= 2 * most + 1
    for pair, shown in first.items():
        assert labels.of(*pair) == shown, "a series goes on"
        assert shown in {pair, (pair[0], OTHER), (OTHER, OTHER)}


def test_a_long_name_takes_no_memory() -> None:
    assert BoundedLabels(5).of("x" * 201, "q" * 200) == (OTHER, "q" * 200)
