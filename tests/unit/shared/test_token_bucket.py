from __future__ import annotations

import math

import pytest

from spoke_jobs.shared.token_bucket import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_steady_rate() -> None:
    bucket = TokenBucket(2, 3, Clock())
    assert [bucket.take() for _ in range(5)] == pytest.approx([0, 0, 0, 0.5, 1.0])


def test_it_refills_no_further_than_to_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(2, 3, clock)
    for _ in range(4):
        bucket.take()
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == pytest.approx([0, 0, 0, 0.5])


def test_a_token_that_is_put_back_is_the_next_ones() -> None:
    bucket = TokenBucket(1, 1, Clock())
    assert bucket.take() == 0
    assert bucket.take() == pytest.approx(1)
    bucket.put_back()
    assert bucket.take() == pytest.approx(1)


@pytest.mark.parametrize(("per_second", "burst"), [(math.inf, 1), (1, math.inf), (math.inf, math.inf)])
def test_without_a_limit_nobody_waits(per_second: float, burst: float) -> None:
    bucket = TokenBucket(per_second, burst, Clock())
    assert {bucket.take() for _ in range(1000)} == {0}
