"""A replica through which no request gets says so, and one with refused strangers does not."""

from __future__ import annotations

from spoke_jobs.tasks.server.http_app import QUIET_SECONDS, UNREADY_AFTER_SECONDS, Readiness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_that_is_accepted_among_many_keeps_it_ready() -> None:
    clock = Clock()
    readiness = Readiness(clock)
    for _ in range(100):
        clock.now += UNREADY_AFTER_SECONDS / 2
        readiness.turned_away("no room")
        assert readiness.problem() is None
        readiness.accepted()


def test_it_is_ready_again_when_nobody_was_turned_away_for_a_while() -> None:
    clock = Clock()
    readiness = Readiness(clock)
    for _ in range(3):
        readiness.turned_away("no room")
        clock.now += UNREADY_AFTER_SECONDS
    assert readiness.problem() is not None
    clock.now += QUIET_SECONDS
    assert readiness.problem() is None
    readiness.turned_away("no room")
    assert readiness.problem() is None, "the time before does not count"
