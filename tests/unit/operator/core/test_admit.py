"""Who may start: locks, limits, priority, fair turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs_operator.core.admission import admit as admit_core
from spoke_jobs_operator.core.admission.admit import Candidate, ScopeKey, Usage, in_order, why_held
from spoke_jobs_operator.core.admission.admit import admit as admit_in_turn
from spoke_jobs_operator.core.admission.turns import Turns
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key


def candidate(
    name: str,
    priority: int = 0,
    age: float = 0,
    *,
    queue: str = "",
    locks: bool = False,
    org: int | None = None,
    ns: str = "ns",
    row: int = 0,
) -> Candidate:
    created_at = NOW - timedelta(seconds=age)
    return Candidate(Key(ns, name), priority, created_at, Subject("", queue, org), locks, request_id=row)


def admit(
    waiting: list[Candidate], running: list[Candidate], limits: Limits, turns: Turns | None = None
) -> tuple[Key, ...]:
    return tuple(item.key for item in admit_in_turn(waiting, Usage.of(running), limits, turns or Turns()))


def had_turns(*items: Candidate) -> Turns:
    turns = Turns()
    for item in items:
        turns.take(item.party, 1)
    return turns


WAITING = [candidate("young"), candidate("old", age=9), candidate("urgent", priority=1), candidate("also-young")]


def names(limits: Limits, *running: str) -> list[str]:
    return [key.name for key in admit(WAITING, [candidate(name) for name in running], limits)]


def test_priority_then_age_then_name() -> None:
    assert names(Limits()) == ["urgent", "old", "also-young", "young"]


def test_within_a_second_the_rows_order_counts() -> None:
    waiting = [candidate("report-11-b", row=11), candidate("export-12-c", row=12), candidate("report-9-a", row=9)]
    assert [key.name for key in admit(waiting, [], Limits())] == ["report-9-a", "report-11-b", "export-12-c"]


def test_no_more_than_the_limit() -> None:
    assert names(Limits(3), "a") == ["urgent", "old"]
    assert names(Limits(1), "a") == []
    assert names(Limits(1), "a", "b") == [], "the limit may have been lowered"


def test_one_of_a_queue_that_locks_it_and_others_pass() -> None:
    waiting = [candidate(f"l{n}", age=9 - n, queue="q", locks=True) for n in range(3)]
    waiting += [candidate("free", queue="q"), candidate("elsewhere", queue="q", locks=True, ns="other")]
    assert [key.name for key in admit(waiting, [], Limits())] == ["l0", "elsewhere", "free"]
    holder = candidate("holder", queue="q", locks=True)
    assert [key.name for key in admit(waiting, [holder], Limits())] == ["elsewhere", "free"]
    held = why_held(waiting[0], Usage.of([holder]), Limits())
    assert held
    assert (held.code, held.holder, held.object) == ("QueueLocked", "holder", "q")
    assert wait_text.sentence(held) == "SpokeJob holder has the queue 'q'"


def test_each_limit_is_kept_and_named() -> None:
    running = [candidate("r", queue="q", org=1)]
    usage = Usage.of(running)
    for limits, reason in (
        (Limits(in_queue=1), "QueueLimitReached"),
        (Limits(for_organization=1), "OrganizationLimitReached"),
        (Limits(in_namespace=1), "NamespaceLimitReached"),
        (Limits(running=1), "LimitReached"),
    ):
        item = candidate("a", queue="q", org=1)
        held = why_held(item, usage, limits)
        assert held
        assert held.code == reason
        assert admit([item], running, limits) == ()
    elsewhere = candidate("b", queue="q", org=1, ns="other")
    assert admit([elsewhere], running, Limits(in_namespace=1, in_queue=1, for_organization=1)) == (elsewhere.key,)
    nobodys = candidate("c")
    assert admit([nobodys], [candidate("r")], Limits(in_queue=1, for_organization=1)) == (nobodys.key,)


def test_only_the_oldest_unfinished_ones_may_start() -> None:
    """Whatever their priority, and although nothing runs."""
    usage, limits = Usage(), Limits(unfinished=2)
    crowd = [candidate(name, age=age, priority=9 - int(age)) for name, age in (("a", 3.0), ("b", 2.0), ("c", 1.0))]
    for item in crowd:
        usage.unfinished.add(item.key, item.age)
    assert [item.key.name for item in admit_in_turn(crowd, usage, limits, Turns())] == ["b", "a"]
    held = why_held(crowd[2], usage, limits)
    assert held
    assert (held.code, held.running, held.limit) == ("UnfinishedLimitReached", 3, 2)
    assert "only the oldest 2 may start" in wait_text.sentence(held)
    assert why_held(candidate("c", ns="other"), usage, limits) is None


def test_with_one_place_turns_alternate_by_who_had_the_last() -> None:
    a, b = candidate("a", age=9, org=1), candidate("b", org=2)
    assert admit([a, b], [], Limits(1)) == (a.key,)
    assert admit([a, b], [], Limits(1), had_turns(a)) == (b.key,)
    assert admit([a, b], [], Limits(1), had_turns(a, b)) == (a.key,)


def test_the_organization_with_the_fewest_running_jobs_is_next_whoever_had_the_last_turn() -> None:
    a, b = candidate("a", age=9, org=1), candidate("b", org=2)
    running = [candidate("r", org=1)]
    assert admit([a, b], running, Limits(2), had_turns(a, b)) == (b.key,)


def test_the_order_that_is_shown_is_the_order_of_turns() -> None:
    waiting = [candidate(f"l{n}", age=9 - n, queue="q", locks=True) for n in range(3)]
    waiting += [candidate("other", org=5)]
    assert [item.key.name for item in in_order(waiting, Usage(), Limits(), Turns(), 3)] == ["l0", "other", "l1"]


LATE_FIRST = candidate("first-1", age=1, queue="q", locks=True, row=1)
"""Its SpokeJob was created four seconds after that of the next row."""
EARLY_SECOND = candidate("second-2", age=5, queue="q", locks=True, row=2)


def test_of_those_that_lock_a_queue_the_older_row_comes_first() -> None:
    between = candidate("between", age=3, row=7)
    waiting = [EARLY_SECOND, LATE_FIRST, between]
    assert [key.name for key in admit(waiting, [], Limits())] == ["first-1", "between"]
    assert [item.key.name for item in in_order(waiting, Usage(), Limits(), Turns(), 3)] == [
        "first-1",
        "between",
        "second-2",
    ]


def test_rows_of_other_queues_and_jobs_that_lock_none_keep_the_order_of_their_age() -> None:
    """Several applications may share a namespace. Each numbers its own rows."""
    older = candidate("older", age=5, queue="r", locks=True, row=2)
    unlocked = candidate("unlocked", age=9, queue="q", row=3)
    assert [key.name for key in admit([LATE_FIRST, older, unlocked], [], Limits())] == ["unlocked", "older", "first-1"]


def test_priority_and_turns_come_before_the_row() -> None:
    urgent = replace(EARLY_SECOND, priority=1)
    assert [key.name for key in admit([LATE_FIRST, urgent], [], Limits())] == ["second-2"]
    of_another = replace(EARLY_SECOND, subject=Subject("", "q", 5))
    assert [key.name for key in admit([LATE_FIRST, of_another], [], Limits())] == ["second-2"]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            candidate,
            st.uuids().map(str),
            age=st.integers(0, 9).map(float),
            queue=st.sampled_from(["", "q", "r"]),
            locks=st.booleans(),
            row=st.integers(1, 9),
        ),
        max_size=25,
    )
)
def test_jobs_that_lock_a_queue_exchange_their_places_and_no_others_do(waiting: list[Candidate]) -> None:
    def place(item: Candidate) -> str | Key:
        return item.subject.queue_name if item.locks_queue else item.key

    order = in_order(waiting, Usage(), Limits(), Turns(), len(waiting))
    by_age = sorted(waiting, key=lambda item: item.age)
    assert Counter(order) == Counter(waiting)
    assert [place(item) for item in order] == [place(item) for item in by_age]
    for queue in ("", "q", "r"):
        rows = [item.request_id for item in order if item.locks_queue and item.subject.queue_name == queue]
        assert rows == sorted(rows)


PARTIES = st.builds(
    candidate,
    st.uuids().map(str),
    st.integers(-1, 1),
    st.floats(0, 100),
    queue=st.sampled_from(["", "q", "r"]),
    locks=st.booleans(),
    org=st.sampled_from([None, 1, 2]),
    ns=st.sampled_from(["a", "b"]),
)
BOUNDS = st.none() | st.integers(1, 4)
LIMITS = st.builds(Limits, BOUNDS, BOUNDS, BOUNDS, BOUNDS)


@settings(deadline=None)
@given(st.lists(PARTIES, max_size=25), LIMITS)
def test_limits_and_locks_hold_and_nobody_waits_for_nothing(waiting: list[Candidate], limits: Limits) -> None:
    admitted = set(admit(waiting, [], limits))
    chosen = [item for item in waiting if item.key in admitted]
    usage = Usage.of(chosen)
    for bound, counts in (
        (limits.running, [len(chosen)]),
        (limits.in_namespace, Counter(item.key.namespace for item in chosen).values()),
        (limits.in_queue, Counter(item.queue_key for item in chosen if item.subject.queue_name).values()),
        (limits.for_organization, Counter(item.party for item in chosen if item.subject.organization_id).values()),
    ):
        assert bound is None or all(count <= bound for count in counts)
    assert all(len(holders) == 1 for holders in usage.locked_by.values())
    assert all(why_held(item, usage, limits) for item in waiting if item.key not in admitted)


@settings(deadline=None)
@given(st.lists(PARTIES, max_size=25))
def test_who_gives_all_places_back_leaves_nothing_counted(items: list[Candidate]) -> None:
    usage = Usage.of(items)
    for item in items:
        usage.remove(item)
    assert usage == Usage()


def test_a_changed_copy_is_counted_as_what_it_is_now() -> None:
    """What a job counts as is made once for each candidate."""
    first = candidate("a", queue="q", org=1)
    usage = Usage.of([first])
    copy = replace(first, subject=Subject("", "r", 2))
    usage.add(copy)
    assert (copy.subject.queue_name, copy.party.organization) == ("r", 2)
    assert (usage.in_scope[ScopeKey("ns", "queue:q")], usage.in_scope[ScopeKey("ns", "queue:r")]) == (1, 1)
    usage.remove(first)
    assert ScopeKey("ns", "queue:q") not in usage.in_scope
    assert usage.of_party == {copy.party: 1}


def test_types_with_many_prefixes_fill_no_memory() -> None:
    """Each prefix is a scope, and whoever may create SpokeJobs chooses the types."""
    before = admit_core._kept.cache_info().currsize
    for number in range(20):
        usage = Usage.of([replace(candidate("a"), subject=Subject(f"t{number}{'.x' * 50}"))])
        assert usage.in_scope[ScopeKey("ns", f"type:t{number}.x.*")] == 1
    assert admit_core._kept.cache_info().currsize == before
