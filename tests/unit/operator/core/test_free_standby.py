"""Who may start during a hold because a standby pod is free."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, admit, is_full, why_held
from spoke_jobs_operator.core.admission.turns import Turns
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.core.obstacles.room import Phase, Sighting

RUNS = Sighting(Phase.OTHER, node="node-1", runs=True, has_pod=True)
PENDS = Sighting(Phase.NO_NODE, has_pod=True)


def candidate(name: str, *, standby: bool = True, age: float = 0, **fields: Any) -> Candidate:
    values: dict[str, Any] = {"priority": 0, "subject": Subject(), "template": "a"} | fields
    return Candidate(Key("ns", name), created_at=NOW - timedelta(seconds=age), standby=standby, **values)


def holds_of(usage: Usage) -> Holds:
    assert usage.holds is not None
    return usage.holds


def closed(**free: int) -> Usage:
    """No further pod may start: the only one that may is starting."""
    usage = Usage(holds=Holds(1, NOW))
    usage.add(candidate("starts", standby=False))
    assert holds_of(usage).closed_in("ns")
    holds_of(usage).standby.set_free("ns", free)
    return usage


def admitted(usage: Usage, *waiting: Candidate) -> list[str]:
    return [item.key.name for item in admit(waiting, usage, Limits(), Turns())]


candidates = st.lists(
    st.builds(
        dict,
        standby=st.booleans(),
        template=st.sampled_from(["a", "b"]),
        priority=st.integers(0, 2),
        age=st.integers(0, 50),
    ),
    max_size=12,
).map(lambda found: [candidate(f"job-{number}", **fields) for number, fields in enumerate(found)])


@given(candidates, st.integers(0, 4), st.integers(0, 4))
def test_during_a_hold_as_many_start_as_standby_pods_are_free(waiting: list[Candidate], a: int, b: int) -> None:
    usage = closed(a=a, b=b)
    assert is_full(usage, Limits(), ["ns"]) == (a == b == 0)
    started = admitted(usage, *waiting)
    found = [item for item in waiting if item.key.name in started]
    for template, free in (("a", a), ("b", b)):
        could = sorted((item for item in waiting if item.standby and item.template == template),
                       key=lambda item: (-item.priority, item.age))  # fmt: skip
        assert {item.key for item in found if item.template == template} == {item.key for item in could[:free]}
    assert Counter(started).total() == len(found), "each of them once"
    assert holds_of(usage).room.pending == 1, "none of them needs a node"


def test_when_the_room_is_used_up_in_one_pass_those_with_a_standby_pod_follow() -> None:
    usage = Usage(holds=Holds(2, NOW))
    holds_of(usage).standby.set_free("ns", {"a": 1})
    waiting = [candidate(f"pod-{number}", standby=False, age=60 - number) for number in range(5)]
    assert admitted(usage, *waiting, candidate("late")) == ["pod-0", "pod-1", "late"]


def test_one_that_comes_alone_is_not_held_and_the_next_one_is() -> None:
    usage = closed(a=1)
    assert why_held(candidate("first"), usage, Limits()) is None
    assert why_held(candidate("other", standby=False), usage, Limits()) is not None
    usage.add(candidate("first"))
    assert why_held(candidate("second"), usage, Limits()) is not None, "the pod is promised"
    assert holds_of(usage).standby.set_free("ns", {"a": 2}), "more are free than before"
    assert why_held(candidate("second"), usage, Limits()) is None
    assert not holds_of(usage).standby.set_free("ns", {})
    assert why_held(candidate("second"), usage, Limits()) is not None


def test_a_standby_pod_is_no_way_around_an_absent_database() -> None:
    usage = closed(a=1)
    for number in range(20):
        gone = candidate(f"gone-{number}", standby=False)
        usage.add(gone)
        holds_of(usage).ended(gone.key, Cause.DATABASE_UNREACHABLE)
        usage.remove(gone)
    held = why_held(candidate("first"), usage, Limits())
    assert held is not None
    assert held.code == "DatabaseAway"


def test_who_takes_a_standby_pod_proves_nothing_about_new_ones() -> None:
    usage = closed(a=1)
    usage.add(candidate("first"))
    assert not holds_of(usage).observe(Key("ns", "first"), RUNS)
    assert holds_of(usage).room.pending == 1
    assert holds_of(usage).closed_in("ns")


def test_who_finds_none_free_is_counted_like_every_other_pod() -> None:
    usage = closed(a=1)
    usage.add(candidate("first"))
    holds_of(usage).observe(Key("ns", "first"), PENDS)
    assert holds_of(usage).room.pending == 2
    holds_of(usage).observe(Key("ns", "first"), RUNS)
    assert holds_of(usage).room.pending == 1
    usage.remove(candidate("first"))
    assert holds_of(usage).room.pending == 1
