"""The one decision on retries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.causes import CAUSES, CauseClass, cause_class
from spoke_jobs.contract.retry import DEFAULT_BUDGET, GiveUp, RetryPolicy, TryAgain, after_failure

names = st.sampled_from(sorted(CAUSES))
budgets = st.dictionaries(st.sampled_from(list(CauseClass)), st.integers(1, 5))


def test_three_attempts_by_default() -> None:
    policy = RetryPolicy()
    assert after_failure(policy, {}, "JobError") == TryAgain(1.0)
    assert after_failure(policy, {CauseClass.ERROR: 1}, "JobError") == TryAgain(2.0)
    assert after_failure(policy, {CauseClass.ERROR: 2}, "JobError") == GiveUp()


def test_what_no_repetition_mends_is_final_at_once() -> None:
    assert after_failure(RetryPolicy(), {}, "InvalidPayload") == GiveUp()
    assert after_failure(RetryPolicy(), {}, "JobError", for_good=True) == GiveUp()


def test_held_queues_are_never_charged() -> None:
    spent = dict.fromkeys(CauseClass, 100)
    assert isinstance(after_failure(RetryPolicy(), spent, "QueueHeld"), TryAgain)


def test_a_cause_from_a_newer_release_is_tried_again() -> None:
    assert cause_class("MeteorStrike") is CauseClass.INFRASTRUCTURE
    assert isinstance(after_failure(RetryPolicy(), {}, "MeteorStrike"), TryAgain)


@given(names, budgets)
def test_every_job_ends(cause: str, budget: dict[CauseClass, int]) -> None:
    """Repeating one cause for ever ends the job after its class's budget, unless it is uncharged."""
    kind = cause_class(cause)
    policy, charged, attempts = RetryPolicy(budget=budget), 0, 0
    while attempts < 20:
        attempts += 1
        if isinstance(after_failure(policy, {kind: charged}, cause), GiveUp):
            break
        charged += 1
    allowed = budget.get(kind, DEFAULT_BUDGET.get(kind, 1))
    assert attempts == (20 if kind is CauseClass.UNCHARGED else allowed)


@given(st.integers(0, 10_000), st.floats(0, 1e4), st.floats(0, 1e4))
def test_backoff_grows_to_its_bound(earlier: int, first: float, most: float) -> None:
    policy = RetryPolicy(budget={CauseClass.ERROR: 10**6}, backoff_seconds=first, backoff_max_seconds=most)
    now = after_failure(policy, {CauseClass.ERROR: earlier}, "JobError")
    later = after_failure(policy, {CauseClass.ERROR: earlier + 1}, "JobError")
    assert isinstance(now, TryAgain)
    assert isinstance(later, TryAgain)
    assert 0 <= now.delay_seconds <= later.delay_seconds <= most


def test_every_cause_says_what_it_means_and_what_to_do() -> None:
    for name, cause in CAUSES.items():
        if name != "interrupted_by_migration":  # as the reference's users know it
            assert name.isalnum()
            assert name[0].isupper()
        assert len(name) <= 40
        assert cause.meaning.endswith(".")
        assert cause.advice.endswith(".")
