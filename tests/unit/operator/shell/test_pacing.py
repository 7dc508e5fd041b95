"""Places are taken, kept, given back and passed on."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.actions import Standing
from spoke_jobs_operator.core.admit import Candidate, Limits
from spoke_jobs_operator.core.api_objects import Key
from spoke_jobs_operator.shell.pacing import Pacer


def candidate(name: str, priority: int = 0, *, queue: str = "", org: int | None = None) -> Candidate:
    return Candidate(Key("ns", name), priority, NOW, queue, bool(queue), org)


A, B, C = candidate("a"), candidate("b"), candidate("c", priority=5)


def pacer_of(limits: Limits) -> tuple[Pacer, list[str]]:
    woken: list[str] = []
    return Pacer(limits, lambda key: woken.append(key.name)), woken


def test_places_are_given_kept_and_passed_on() -> None:
    pacer, woken = pacer_of(Limits(1))
    pacer.settle(A, Standing.WAITS)
    assert pacer.held(A) is None
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.settle(C, Standing.WAITS)
    held = pacer.held(B)
    assert held
    assert held.code == "LimitReached"
    assert woken == ["a"]
    pacer.settle(A, Standing.FINISHED)
    assert woken == ["a", "c"]
    pacer.settle(C, Standing.IDLE)  # blocked after all: the place is free again
    assert woken == ["a", "c", "b"]
    assert pacer.held(C)


def test_one_that_is_deleted_makes_room() -> None:
    pacer, woken = pacer_of(Limits(1))
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.forget(A.key)
    assert woken == ["b"]
    pacer.forget(B.key)
    assert pacer.usage.total == 0


def test_without_limits_everybody_is_admitted() -> None:
    pacer, woken = pacer_of(Limits())
    for each in (A, B, C):
        pacer.settle(each, Standing.WAITS)
        assert pacer.held(each) is None
    assert woken == ["a", "b", "c"]


def test_a_queue_s_lock_goes_to_the_next_without_limits_too() -> None:
    pacer, woken = pacer_of(Limits())
    first, second = candidate("first", queue="q"), candidate("second", queue="q")
    pacer.settle(first, Standing.WAITS)
    pacer.settle(second, Standing.WAITS)
    held = pacer.held(second)
    assert held
    assert held.code == "QueueLocked"
    pacer.settle(first, Standing.FINISHED)
    assert woken == ["first", "second"]


def test_turns_are_remembered() -> None:
    pacer, woken = pacer_of(Limits(1))
    large = [candidate(f"large-{n}", org=1) for n in range(4)]
    small = [candidate(f"small-{n}", org=2) for n in range(2)]
    for each in large + small:
        pacer.settle(each, Standing.WAITS)
    by_name = {each.key.name: each for each in large + small}
    for turn in range(5):
        pacer.settle(by_name[woken[turn]], Standing.FINISHED)
    assert woken == ["large-0", "small-0", "large-1", "small-1", "large-2", "large-3"]


def test_what_was_there_before_is_taken_in_at_once() -> None:
    pacer, woken = pacer_of(Limits(2))
    pacer.prime([A], [B, C])
    assert woken == ["c"], "not by who is looked at first"
    assert [each.key.name for each in pacer.order(5)] == ["b"]
    pacer.prime([A, C], [B])  # a namespace that could be listed only later
    assert woken == ["c"]


def test_nobody_overtakes_while_places_are_about_to_be_given_out() -> None:
    calls: list[Callable[[], None]] = []
    woken: list[str] = []
    pacer = Pacer(Limits(1), lambda key: woken.append(key.name), defer=calls.append)
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(C, Standing.WAITS)
    pacer.settle(A, Standing.FINISHED)
    pacer.settle(B, Standing.WAITS)
    held = pacer.held(B)
    assert held
    assert held.code == "", "undecided, which is not worth a write"
    (look,) = calls
    look()
    assert woken == ["c"]
