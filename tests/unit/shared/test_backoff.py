from __future__ import annotations

import pytest

from spoke_jobs.shared.backoff import Backoff


def test_the_wait_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(base=0.5, maximum=10)
    assert [backoff.after(failures) for failures in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.after(1_000_000) == 10
    assert backoff.after(0) == 0.5, "what has not failed waits like after the first failure"
    assert [Backoff(1, 100, factor=3).after(failures) for failures in (1, 2, 3)] == [1, 3, 9]


@pytest.mark.parametrize(
    ("failures", "spread", "wait"), [(1, 0, 1), (1, 0.5, 1.125), (1, 1, 1.25), (7, 0, 60), (7, 1, 60)]
)
def test_jitter_lengthens_a_wait_but_not_beyond_the_maximum(failures: int, spread: float, wait: float) -> None:
    assert Backoff(1, 60, jitter=0.25).after(failures, spread) == wait


@pytest.mark.parametrize(("failures", "spread", "wait"), [(1, 0, 1), (1, 1, 0.5), (20, 0, 60), (20, 1, 30)])
def test_negative_jitter_shortens_it_at_the_maximum_too(failures: int, spread: float, wait: float) -> None:
    assert Backoff(1, 60, jitter=-0.5).after(failures, spread) == wait
