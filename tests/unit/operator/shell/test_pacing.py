from __future__ import annotations

from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.actions import Standing
from spoke_jobs_operator.core.admit import Candidate, Limits
from spoke_jobs_operator.core.model import Key
from spoke_jobs_operator.shell.pacing import Pacer


def candidate(name: str, priority: int = 0) -> Candidate:
    return Candidate(Key("ns", name), priority, NOW)


A, B, C = candidate("a"), candidate("b"), candidate("c", priority=5)


def test_places_are_given_kept_and_passed_on() -> None:
    woken: list[str] = []
    pacer = Pacer(Limits(1), lambda key: woken.append(key.name))
    pacer.settle(A, Standing.WAITS)
    assert pacer.is_admitted(A.key)
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.settle(C, Standing.WAITS)
    assert not pacer.is_admitted(B.key)
    assert woken == ["a"]
    pacer.settle(A, Standing.FINISHED)
    assert woken == ["a", "c"]
    pacer.settle(C, Standing.IDLE)  # blocked after all: the place is free again
    assert woken == ["a", "c", "b"]
    assert not pacer.is_admitted(C.key)


def test_one_that_is_deleted_makes_room() -> None:
    woken: list[str] = []
    pacer = Pacer(Limits(1), lambda key: woken.append(key.name))
    pacer.settle(A, Standing.HOLDS)
    pacer.settle(B, Standing.WAITS)
    pacer.forget(A.key)
    assert woken == ["b"]


def test_without_limits_everybody_is_admitted() -> None:
    pacer = Pacer(Limits(None), lambda _: None)
    assert pacer.is_admitted(A.key)
