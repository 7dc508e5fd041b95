"""Namespaces take turns by weight, whatever the priorities in them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs_operator.core.admission import turns as turns_module
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, admit, in_order
from spoke_jobs_operator.core.admission.turns import Party, Turns
from spoke_jobs_operator.core.limits.limits import Bound, Limits, NamespaceLimits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.shell.admission.pacing import Pacer


def candidate(namespace: str, number: int, priority: int = 0, org: int | None = None) -> Candidate:
    return Candidate(Key(namespace, f"{number:05}"), priority, NOW, Subject(organization_id=org))


class Line:
    """Places that jobs take and release one after the other, the oldest first."""

    def __init__(self, places: int, weights: dict[str, int] | None = None) -> None:
        namespaces = {name: NamespaceLimits(weight=weight) for name, weight in (weights or {}).items()}
        self.started: list[Key] = []
        self._known: dict[Key, Candidate] = {}
        self._ended = 0
        self._pacer = Pacer(Limits(running=places, namespaces=namespaces), self.started.append)

    def come(self, *items: Candidate) -> None:
        for item in items:
            self._known[item.key] = item
            self._pacer.settle(item, Standing.WAITS)

    def end_one(self) -> None:
        """End the job that runs longest."""
        self._pacer.settle(self._known[self.started[self._ended]], Standing.FINISHED)
        self._ended += 1

    def starts_of(self, namespace: str) -> list[int]:
        """At which of all starts its jobs started."""
        return [number for number, key in enumerate(self.started) if key.namespace == namespace]


def test_ten_jobs_beside_three_thousand_of_a_high_priority_start_within_their_turns() -> None:
    for places in (1, 4, 20):
        line = Line(places)
        line.come(*(candidate("large", n, priority=1000 - n % 7) for n in range(3000)))
        line.come(*(candidate("small", n, priority=-1000) for n in range(10)))
        while len(line.starts_of("small")) < 10:
            line.end_one()
        assert line.starts_of("small")[-1] < places + 20, "at most as many of the large one start meanwhile"


PRIORITIES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=30)


@settings(deadline=None)
@given(PRIORITIES, PRIORITIES, st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
def test_priority_never_takes_another_namespace_s_turn(
    a: list[int], b: list[int], places: int, weight_a: int, weight_b: int
) -> None:
    """Other priorities in a namespace change which of its jobs start, not when any of the other's do."""
    orders = []
    for priorities in (a, [0] * len(a)):
        line = Line(places, {"a": weight_a, "b": weight_b})
        line.come(*(candidate("a", n, priority) for n, priority in enumerate(priorities)))
        line.come(*(candidate("b", n, priority) for n, priority in enumerate(b)))
        while line._ended < len(line.started):
            line.end_one()
        assert len(line.started) == len(a) + len(b)
        orders.append([(at, key) for at, key in enumerate(line.started) if key.namespace == "b"])
    assert orders[0] == orders[1]


def test_within_a_namespace_priority_comes_first_up_to_its_cap() -> None:
    items = [candidate("a", 1, 5, org=1), candidate("a", 2, 900, org=2), candidate("a", 3, 7, org=1)]
    order = [item.key.name for item in in_order(items, Usage(), Limits(), Turns(), 9)]
    assert order == ["00002", "00003", "00001"]
    capped = Limits(namespaces={"a": NamespaceLimits(max_priority=Bound(5, "SpokeLimit x"))})
    assert [item.key.name for item in in_order(items, Usage(), capped, Turns(), 9)] == ["00001", "00002", "00003"]


def test_to_show_the_order_takes_no_turns() -> None:
    turns = Turns()
    assert in_order([candidate("a", 1)], Usage(), Limits(), turns, 9)
    assert (turns.of_party(Party("a", None)), turns.of_namespace("a")) == (0, (0.0, 0))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_shares_follow_the_weights(places: int, weight_a: int, weight_b: int) -> None:
    line = Line(places * (weight_a + weight_b) if places > 1 else 1, {"a": weight_a, "b": weight_b})
    line.come(*(candidate(namespace, n) for n in range(300) for namespace in "ab"))
    while len(line.started) < 240:
        line.end_one()
    shares = Counter(key.namespace for key in line.started[120:240])
    assert abs(shares["a"] - 120 * weight_a / (weight_a + weight_b)) <= 2 * places + 3


@pytest.mark.parametrize(("weight", "first"), [(2, "b"), (4, "a")])
def test_the_namespace_with_the_fewest_running_jobs_for_its_weight_is_next(weight: int, first: str) -> None:
    running = [*(candidate("a", n) for n in range(3)), candidate("b", 3)]
    turns = Turns()
    for _ in range(9):  # its jobs were short
        turns.take(Party(first, None), 1)
    limits = Limits(namespaces={"a": NamespaceLimits(weight=weight)})
    waiting = [candidate("a", 4), candidate("b", 5)]
    assert next(admit(waiting, Usage.of(running), limits, turns)).key.namespace == first


def test_who_comes_later_has_no_turns_saved_up() -> None:
    line = Line(1)
    line.come(*(candidate("a", n) for n in range(100)))
    for _ in range(50):
        line.end_one()
    line.come(*(candidate("b", n) for n in range(10)))
    for _ in range(10):
        line.end_one()
    latest = [key.namespace for key in line.started[51:]]
    assert latest == ["b", "a"] * 5


def test_a_paused_or_full_namespace_takes_no_turns() -> None:
    full = NamespaceLimits(bounds={"all": Bound(1, "x")})
    turns, usage = Turns(), Usage()
    items = [candidate(namespace, n) for n in range(4) for namespace in "ab"]
    admitted = list(admit(items, usage, Limits(running=5, namespaces={"a": full}), turns))
    assert Counter(item.key.namespace for item in admitted) == {"a": 1, "b": 4}


def test_turns_of_long_ago_are_forgotten() -> None:
    turns = Turns()
    for n in range(turns_module.REMEMBERED + 5):
        turns.take(Party(f"ns-{n}", None), 1)
    assert (turns.of_party(Party("ns-0", None)), turns.of_namespace("ns-0")) == (0, (0.0, 0))
    assert len(turns._parties) == len(turns._namespaces) == turns_module.REMEMBERED
