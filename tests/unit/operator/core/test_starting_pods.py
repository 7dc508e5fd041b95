"""How many pods may start at a time: what raises the bound, and what does not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.room import (
    NOT_YET,
    REMEMBERED,
    STARTING_ON_A_NODE,
    UNWRITTEN,
    Group,
    Phase,
    Room,
    Sighting,
)

GROUP = Group("ns", "default")
MOST = 20
NODE = Sighting(Phase.HAS_NODE, node="node-1")
RUNS = Sighting(Phase.OTHER, node="node-1", runs=True)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def key(number: int) -> Key:
    return Key("ns", f"job-{number}")


def start_together(room: Room, count: int, seconds: float, took: float = 1.0) -> None:
    """Start so many pods at once; all run after the same time, and end."""
    for number in range(count):
        room.admit(key(number), GROUP, at(seconds))
        room.observe(key(number), NODE, at(seconds + took / 2))
    for number in range(count):
        room.observe(key(number), RUNS, at(seconds + took))
    for number in range(count):
        room.release(key(number))


def test_fast_starts_of_as_many_as_may_start_raise_the_bound() -> None:
    room = Room(MOST)
    start_together(room, MOST, 0)
    assert room.may_start > MOST


def test_slow_starts_lower_it_again() -> None:
    room = Room(MOST)
    start_together(room, MOST, 0)
    raised = room.may_start
    start_together(room, MOST, 10, took=11)
    assert MOST <= room.may_start < raised


def test_single_starts_one_after_another_show_nothing_about_many_at_once() -> None:
    room = Room(MOST)
    for number in range(500):
        start_together(room, 1, 10 * number)
    assert room.may_start == MOST


def test_a_new_leader_does_not_take_the_pods_that_run_for_fast_starts() -> None:
    room = Room(MOST)
    for number in range(200):
        room.admit(key(number), GROUP, NOW, adopted=True)
    for number in range(200):
        room.observe(key(number), RUNS, at(1))
    assert room.may_start == MOST


def test_each_node_that_runs_attempts_lets_more_pods_start() -> None:
    room = Room(MOST)
    for number in range(5):
        room.admit(key(number), GROUP, NOW)
        room.observe(key(number), Sighting(Phase.HAS_NODE, node=f"node-{number}"), NOW)
    assert room.may_start == 5 * STARTING_ON_A_NODE


def test_while_as_many_start_as_may_no_other_is_admitted_and_says_so_after_a_minute() -> None:
    room = Room(MOST)
    for number in range(MOST):
        room.admit(key(number), GROUP, NOW)
        room.observe(key(number), NODE, NOW)
    other = Group("ns", "other")
    assert room.closed_in("ns")
    wait = room.why(other, at(-UNWRITTEN.total_seconds()), NOW)
    assert wait is not None
    assert (wait.code, wait.running, wait.limit) == ("StartLimitReached", MOST, MOST)
    assert room.why(other, at(-1), NOW) is NOT_YET, "most of these waits are shorter"
    room.observe(key(0), RUNS, at(5))
    assert room.why(other, NOW, NOW) is None


def test_a_template_counts_as_full_for_a_while_so_that_reasons_do_not_alternate() -> None:
    room = Room(MOST)
    room.admit(key(1), GROUP, NOW)
    room.observe(key(1), Sighting(Phase.NO_ROOM, short="cpu"), NOW)
    room.observe(key(1), NODE, at(1))
    room.tick(at(REMEMBERED.total_seconds() - 1))
    (full,) = room.published(GROUP.namespace)
    assert (full.short, full.since) == ("cpu", NOW.isoformat())
    room.tick(at(REMEMBERED.total_seconds()))
    assert room.published(GROUP.namespace) == []


def fill(room: Room, namespace: str, count: int, seen: Sighting | None = None) -> None:
    """Admit so many SpokeJobs of a namespace."""
    for number in range(count):
        room.admit(Key(namespace, f"job-{number}"), Group(namespace, "default"), NOW)
        if seen is not None:
            room.observe(Key(namespace, f"job-{number}"), seen, NOW)


def admits(room: Room, namespace: str) -> int:
    """Admit SpokeJobs of a namespace, each of which gets a node at once, as long as there is room. Return how many."""
    for number in range(1_000):
        if room.why(Group(namespace, "default"), NOW, NOW) is not None:
            return number
        room.admit(Key(namespace, f"job-{number}"), Group(namespace, "default"), NOW)
        room.observe(Key(namespace, f"job-{number}"), NODE, NOW)
    raise AssertionError("no bound")


@pytest.mark.parametrize("seen", [None, NODE, Sighting(Phase.NO_ROOM, short="cpu")])
@pytest.mark.parametrize("count", [MOST, 5 * MOST])
def test_pods_of_one_namespace_leave_another_one_its_share(seen: Sighting | None, count: int) -> None:
    room = Room(MOST)
    fill(room, "hostile", count, seen)
    assert admits(room, "hostile") == 0
    assert room.closed_in("hostile") == (seen is None or seen is NODE)
    assert admits(room, "ns") >= MOST // 2


def test_shares_of_many_namespaces() -> None:
    room = Room(MOST)
    fill(room, "hostile", 5 * MOST, NODE)
    shares = [admits(room, f"ns-{number}") for number in range(2 * MOST)]
    assert shares[:4] == [MOST // 2, MOST // 3, MOST // 4, MOST // 5]
    assert shares[MOST - 2] == 1
    assert shares[MOST - 1 :] == [0] * (MOST + 1), "as many namespaces as pods may start have one"
