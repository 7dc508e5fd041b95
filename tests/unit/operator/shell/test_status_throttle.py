from __future__ import annotations

import pytest

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.reconciling.status_throttle import StatusThrottle


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def key(number: int) -> Key:
    return Key("spoke", f"job-{number}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_budget_nobody_waits(clock: Clock) -> None:
    throttle = StatusThrottle(clock=clock)
    assert {throttle.wait(key(n)) for n in range(1000)} == {0.0}


def test_so_many_at_once_then_each_in_turn(clock: Clock) -> None:
    throttle = StatusThrottle(2, 3, 100, clock=clock)
    assert [throttle.wait(key(n)) for n in range(5)] == pytest.approx([0, 0, 0, 0.5, 1.0])


def test_one_that_waits_keeps_its_turn_and_has_it_once(clock: Clock) -> None:
    throttle = StatusThrottle(2, 1, 100, clock=clock)
    assert throttle.wait(key(0)) == 0
    assert throttle.wait(key(1)) == pytest.approx(0.5)
    clock.now += 0.4
    assert throttle.wait(key(1)) == pytest.approx(0.1)
    clock.now += 0.2
    assert throttle.wait(key(1)) == 0
    assert throttle.wait(key(1)) > 0, "that was its turn: the next thing it has to tell waits for another"


def test_nobody_waits_longer_than_the_bound_nor_takes_a_turn_that_comes_later(clock: Clock) -> None:
    throttle = StatusThrottle(1, 1, 5, clock=clock)
    assert [throttle.wait(key(n)) for n in range(20)] == pytest.approx([0, 1, 2, 3, 4, 5, *[5] * 14])
    clock.now += 5
    assert {throttle.wait(key(n)) for n in range(1, 20)} == {0.0}
    assert throttle.wait(key(20)) == pytest.approx(1), "those that could have no turn have used none up"


def test_who_has_told_it_otherwise_waits_for_nothing(clock: Clock) -> None:
    throttle = StatusThrottle(1, 1, 50, clock=clock)
    throttle.wait(key(0))
    assert throttle.wait(key(1)) == pytest.approx(1)
    throttle.forget(key(1))
    assert throttle.wait(key(1)) == pytest.approx(2)
