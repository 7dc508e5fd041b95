"""Whether a claim under limits takes one statement or several."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings, strategies

from spoke_jobs.contract.limit_scopes import ScopeKind
from spoke_jobs.ledger.claims.claim_route import UNKNOWN, ClaimRoute
from spoke_jobs.limits.admission import NOTHING_CLOSED, Closed

PAUSED = Closed(named=frozenset({(ScopeKind.ORGANIZATION, "7")}))
FULL = replace(PAUSED, lasting=False)
TOOK = 0.004


def test_the_first_claim_reads_the_limits_and_the_next_ones_take_one_statement() -> None:
    assert not UNKNOWN.by_one_statement(100.0)
    route = UNKNOWN.after_several(100.0, TOOK, NOTHING_CLOSED)
    assert route.by_one_statement(100.0)
    assert not route.looks(100.9)
    assert route.looks(101.0)
    assert route.by_one_statement(101.0)


def test_a_full_scope_is_looked_at_again_soon_and_a_paused_one_when_limits_change() -> None:
    full = UNKNOWN.after_several(100.0, TOOK, FULL)
    assert full.closed == FULL
    assert not full.looks(100.03)
    assert full.looks(100.0 + 10 * TOOK)
    looked = UNKNOWN.after_look(100.0, 0.001, FULL)
    assert looked.closed == FULL
    assert not looked.looks(100.049)
    assert looked.looks(100.051)
    assert not UNKNOWN.after_several(100.0, TOOK, PAUSED).looks(100.9)
    assert not UNKNOWN.after_look(100.0, 0.001, PAUSED).looks(100.9)


def test_a_scope_is_looked_at_within_a_second_however_slow_the_database_is() -> None:
    assert UNKNOWN.after_several(100.0, 5.0, FULL).looks(101.0)
    assert UNKNOWN.after_look(100.0, 5.0, FULL).looks(101.0)


def test_while_limits_apply_to_most_jobs_claims_begin_with_several_statements() -> None:
    route = UNKNOWN.after_several(100.0, TOOK, NOTHING_CLOSED)
    for _ in range(3):
        route = route.after_one(100.0, 0.001, taken=1, left=7)
    assert not route.by_one_statement(100.005)
    assert route.by_one_statement(100.02)
    # One more such claim is enough to return to several statements, and one of other jobs to stay.
    assert not route.after_one(100.02, 0.001, taken=0, left=8).by_one_statement(100.021)
    assert route.after_one(100.02, 0.001, taken=8, left=0).by_one_statement(100.021)


def test_a_few_jobs_with_limits_change_nothing() -> None:
    route = UNKNOWN.after_several(100.0, TOOK, NOTHING_CLOSED)
    for number in range(1000):
        route = route.after_one(100.0, 0.001, taken=int(number % 100 != 0), left=int(number % 100 == 0))
        assert route.by_one_statement(100.1)


@settings(deadline=None)
@given(
    strategies.lists(
        strategies.tuples(strategies.floats(0, 3), strategies.integers(0, 8), strategies.integers(0, 8)), max_size=50
    )
)
def test_scopes_are_looked_at_every_second_whatever_is_found(found: list[tuple[float, int, int]]) -> None:
    now, looked = 100.0, 100.0
    route: ClaimRoute = replace(UNKNOWN).after_several(now, TOOK, FULL)
    for pause, taken, left in found:
        now += pause
        if route.by_one_statement(now):
            if route.looks(now):
                looked = now
                route = route.after_look(now, TOOK, FULL)
            assert now < looked + 1
            route = route.after_one(now, 0.001, taken, left)
        else:
            looked = now
            route = route.after_several(now, TOOK, FULL)
