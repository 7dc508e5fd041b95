"""Turns among organizations: the rule, and the plan that many claims use."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings, strategies

from spoke_jobs.ledger.claims.claim_turns import DueJob, LastTurns, Organization, TurnPlan, in_turns, planned

TOOK = 0.004
ORGANIZATIONS = strategies.sampled_from((None, 0, 1, 2, 7))
COUNTS = strategies.dictionaries(ORGANIZATIONS, strategies.integers(0, 5))


@strategies.composite
def waiting_jobs(draw: strategies.DrawFn) -> list[DueJob]:
    kinds = draw(strategies.lists(strategies.tuples(strategies.integers(-2, 2), ORGANIZATIONS), max_size=30))
    return draw(strategies.permutations([DueJob(number, *kind) for number, kind in enumerate(kinds)]))


def by_the_words(
    waiting: list[DueJob], running: Counter[Organization], last: dict[Organization, int], held: set[int]
) -> list[int]:
    """The order as the documentation says it, one job after the other."""
    left = [job for job in waiting if job.id not in held]
    found: list[int] = []
    while left:
        highest = min(job.rank for job in left)
        group = [job for job in left if job.rank == highest]
        chosen = min(group, key=lambda job: (running[job.organization_id], last.get(job.organization_id, 0), job.id))
        left.remove(chosen)
        running[chosen.organization_id] += 1
        last[chosen.organization_id] = 1000 + len(found)
        found.append(chosen.id)
    return found


def last_turns(order: list[Organization]) -> LastTurns:
    turns = LastTurns()
    turns.take(order)
    return turns


@settings(deadline=None)
@given(
    waiting=waiting_jobs(),
    running=COUNTS,
    order=strategies.lists(ORGANIZATIONS, unique=True),
    held=strategies.sets(strategies.integers(0, 29)),
)
def test_the_order_is_that_of_the_documentation_and_held_jobs_let_others_pass(
    waiting: list[DueJob], running: dict[Organization, int], order: list[Organization], held: set[int]
) -> None:
    counted, turns = Counter(running), last_turns(order)
    found = []
    for job in in_turns(waiting, counted, turns):
        if job.id not in held:
            counted[job.organization_id] += 1
            turns.take([job.organization_id])
            found.append(job.id)
    last = {organization: number for number, organization in enumerate(order, 1)}
    assert found == by_the_words(waiting, Counter(running), last, held)


@settings(deadline=None)
@given(waiting=waiting_jobs(), running=COUNTS)
def test_a_plan_has_each_job_once_and_changes_no_count(waiting: list[DueJob], running: dict[Organization, int]) -> None:
    turns, before = last_turns([7, None]), dict(running)
    first = planned(waiting, running, turns)
    assert sorted(first) == sorted(job.id for job in waiting)
    assert running == before
    assert planned(waiting, running, turns) == first


def test_the_latest_turns_are_remembered() -> None:
    turns = LastTurns()
    turns.take(range(10_001))
    assert turns.of(0) == 0
    assert 0 < turns.of(1) < turns.of(10_000)


def test_a_process_looks_once_a_second_at_most_where_one_organization_waits() -> None:
    plan = TurnPlan()
    assert plan.look_due(100.0)
    plan = plan.after_look(100.0, TOOK, ())
    assert not plan.look_due(100.99)
    assert plan.look_due(101.0)
    assert not plan.after_look(100.0, 0.1, ()).look_due(104.9), "nor for more than a fiftieth of the time"


def test_a_process_whose_claims_leave_nothing_does_not_look() -> None:
    plan = TurnPlan().after_look(100.0, TOOK, (4, 2)).after_others(backlog=False)
    assert not plan.look_due(200.0)
    assert plan.next_jobs(8) == ()
    assert plan.after_others(backlog=True).look_due(200.0)


def test_a_plan_is_used_for_a_second_or_for_fifty_times_as_long_as_a_slow_look_took() -> None:
    plan = TurnPlan().after_look(100.0, TOOK, (1, 2))
    assert not plan.look_due(100.99)
    assert plan.look_due(101.0)
    plan = TurnPlan().after_look(100.0, 0.5, (1, 2))
    assert not plan.look_due(124.9)
    assert plan.look_due(125.0)


def test_a_plan_that_is_used_up_or_too_old_is_made_again_after_fifty_times_as_long_as_the_look_took() -> None:
    plan = TurnPlan().after_look(100.0, TOOK, (4, 2))
    used_up = plan.after_turns((4, 2), [4, 2], left_some=True)
    gone = plan.after_turns((4, 2), [], left_some=False)
    held = plan.after_turns((4, 2), [], left_some=True)
    assert used_up.ids == gone.ids == ()
    for later in (used_up, gone, held):
        assert not later.look_due(100.19)
        assert later.look_due(100.21)
    assert not plan.look_due(100.21, changed=False)
    assert not plan.look_due(100.19, changed=True)
    assert plan.look_due(100.21, changed=True), "a limit has changed"


def test_jobs_that_a_limit_holds_back_stay_in_the_plan() -> None:
    plan = TurnPlan().after_look(100.0, TOOK, (5, 4, 3, 2, 1))
    plan = plan.after_turns((5, 4, 3, 2), [4], left_some=True)
    assert plan.ids == (3, 2, 1)
    assert plan.after_turns((3, 2), [], left_some=True).ids == (3, 2, 1)
    assert plan.after_look(101.0, TOOK, None).ids == (3, 2, 1), "while a limit lets nothing start"


EVENTS = strategies.one_of(
    strategies.floats(0.0, 30.0),  # a pause
    strategies.sampled_from(("claims all", "finds none", "is held", "takes others", "leaves none", "limit changes")),
)
LOOKS = strategies.tuples(strategies.floats(0.0001, 10.0), strategies.sampled_from(((), (3, 2, 1), None)))


@settings(deadline=None)
@given(claims=strategies.lists(strategies.tuples(EVENTS, LOOKS), max_size=60))
def test_no_sequence_of_looks_and_claims_looks_for_more_than_a_fiftieth_of_the_time_and_one_look(
    claims: list[tuple[float | str, tuple[float, tuple[int, ...] | None]]],
) -> None:
    plan, now, took = TurnPlan(), 100.0, [0.0]
    for event, (seconds, ids) in claims:
        if plan.look_due(now, changed=event == "limit changes"):
            now += seconds
            took.append(seconds)
            plan = plan.after_look(now, seconds, ids)
            assert sum(took) <= (now - 100.0) / 50 + max(took) + 1e-6
        offered = plan.next_jobs(2)
        if isinstance(event, float):
            now += event
        elif event == "claims all":
            plan = plan.after_turns(offered, offered, left_some=bool(offered))
        elif event in ("finds none", "is held"):
            plan = plan.after_turns(offered, [], left_some=event == "is held")
        elif event in ("takes others", "leaves none"):
            plan = plan.after_others(backlog=event == "takes others")


@settings(deadline=None)
@given(sizes=strategies.lists(strategies.tuples(strategies.integers(1, 40), strategies.integers(0, 60))))
def test_jobs_are_offered_in_order_until_they_are_claimed_or_passed(sizes: list[tuple[int, int]]) -> None:
    """Of those offered, the claim takes the first ones that others have left. Those that it passes are gone."""
    ids = tuple(range(300, 0, -1))
    plan = TurnPlan().after_look(0.0, TOOK, ids)
    offered: list[int] = []
    for limit, gone in sizes:
        given_ids = plan.next_jobs(limit)
        assert given_ids == ids[ids.index(given_ids[0]) :][: len(given_ids)] if given_ids else True
        claimed = given_ids[gone : gone + limit]
        plan = plan.after_turns(given_ids, claimed, left_some=len(claimed) == limit)
        if not given_ids:
            assert plan.ids == ()
            break
        offered += claimed
        assert not set(plan.ids) & set(offered)
        passed = claimed if len(claimed) == limit else given_ids
        assert plan.ids == ids[ids.index(passed[-1]) + 1 :]
