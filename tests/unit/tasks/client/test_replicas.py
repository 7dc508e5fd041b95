"""Which replica gets the next batch, and how long one is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.tasks.client.replicas import BACKOFF_SECONDS, SHORTENING, Replica, Replicas


def replicas_of(*addresses: str, window: int = 100, random: float = 0.0) -> Replicas:
    replicas = Replicas(window, 5.0, lambda: random)
    replicas.update(addresses)
    return replicas


def chosen(replicas: Replicas, now: float) -> Replica:
    replica = replicas.choose(now)
    assert replica is not None
    return replica


def test_the_least_laden_is_chosen() -> None:
    replicas = replicas_of("a", "b")
    chosen(replicas, 0).in_flight = 5
    assert {chosen(replicas, 0).address for _ in range(5)} == {"b"}


def test_equals_take_turns_by_chance() -> None:
    assert chosen(replicas_of("a", "b", random=0.0), 0).address == "a"
    assert chosen(replicas_of("a", "b", random=0.99), 0).address == "b"
    assert chosen(replicas_of("a", "b", random=1.0), 0).address == "a"


def test_one_that_fails_is_left_alone_for_longer_each_time() -> None:
    replicas = replicas_of("a", "b")
    bad = chosen(replicas, 0)
    now, pauses = 0.0, []
    for _ in range(10):
        pauses.append(replicas.failed(bad, now))
        assert chosen(replicas, now).address == "b"
        now = bad.paused_until
    assert pauses[:3] == [BACKOFF_SECONDS, 2 * BACKOFF_SECONDS, 4 * BACKOFF_SECONDS]
    assert pauses[-1] == 5.0
    replicas.answered(bad, 1)
    assert replicas.failed(bad, now) == BACKOFF_SECONDS


def test_many_requests_that_break_in_one_moment_are_one_failure() -> None:
    replicas = replicas_of("a")
    replica = chosen(replicas, 0)
    for _ in range(50):
        replicas.failed(replica, 0.0)
    assert replica.failures == 1
    assert replicas.choose(0.0) is None
    assert replicas.next_free(0.0) == BACKOFF_SECONDS
    assert replicas.choose(BACKOFF_SECONDS) is replica


def test_one_that_is_full_is_left_alone_as_it_asks_and_sent_less() -> None:
    replicas = replicas_of("a")
    replica = chosen(replicas, 0)
    for _ in range(10):
        replicas.full(replica, 2.0, 0.0)
    assert replica.window == 50
    assert replicas.choose(1.9) is None
    assert replicas.next_free(1.9) == 2.0
    replica.in_flight = 69
    assert replicas.choose(2.0) is replica
    replica.in_flight = 70
    assert replicas.choose(2.0) is None
    for _ in range(10_000):
        replicas.answered(replica, 10)
    assert replica.window == 100


def test_one_that_was_full_and_acknowledges_nothing_is_sent_more_again_in_time() -> None:
    replicas = replicas_of("a")
    replica = chosen(replicas, 1000.0)
    replicas.full(replica, 0.0, 1000.0)
    replica.in_flight = 60
    assert replicas.choose(1000.5) is None
    moment = replicas.next_free(1000.5)
    assert moment is not None
    assert 1001 <= moment <= 1001.2
    assert replicas.choose(moment) is replica
    replica.in_flight = 100
    assert replicas.choose(2000.0) is None
    assert replicas.next_free(2000.0) is None  # its acknowledgements wake the sender, not the clock


def test_what_the_name_resolves_to_is_taken_over_but_never_nothing() -> None:
    replicas = replicas_of("a", "b")
    kept = next(replica for replica in (chosen(replicas, 0),) if replica.address == "a")
    replicas.update(["a", "c", "c"])
    assert len(replicas) == 2
    assert replicas.available(0) == 2
    replicas.update([])
    assert len(replicas) == 2
    kept.in_flight = 1
    assert chosen(replicas, 0).address == "c"


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_is_bounded_and_never_nothing(failures: int, random: float) -> None:
    seconds = Backoff(0.1, 5.0, jitter=SHORTENING).after(failures, random)
    assert 0.05 <= seconds <= 5.0
