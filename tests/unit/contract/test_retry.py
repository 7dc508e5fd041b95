"""The one decision on retries."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.causes import CAUSES, CauseClass, cause_class
from spoke_jobs.contract.custom_resources.spokejob import Retry
from spoke_jobs.contract.retry import DEFAULT_BUDGET, OWN_BACKOFF, GiveUp, RetryPolicy, TryAgain, after_failure

names = st.sampled_from(sorted(CAUSES))
free = st.sampled_from(sorted(name for name, cause in CAUSES.items() if cause.cause_class in OWN_BACKOFF))
"""Causes that are nobody's fault in the job."""
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
    while attempts < 60:
        attempts += 1
        if isinstance(after_failure(policy, {kind: charged}, cause), GiveUp):
            break
        charged += 1
    allowed = budget.get(kind, DEFAULT_BUDGET.get(kind, 1))
    assert attempts == (60 if kind is CauseClass.UNCHARGED else allowed)


@given(st.integers(0, 10_000), st.floats(0, 1e4), st.floats(0, 1e4))
def test_backoff_grows_to_its_bound(earlier: int, first: float, most: float) -> None:
    policy = RetryPolicy(budget={CauseClass.ERROR: 10**6}, backoff_seconds=first, backoff_max_seconds=most)
    now = after_failure(policy, {CauseClass.ERROR: earlier}, "JobError")
    later = after_failure(policy, {CauseClass.ERROR: earlier + 1}, "JobError")
    assert isinstance(now, TryAgain)
    assert isinstance(later, TryAgain)
    assert 0 <= now.delay_seconds <= later.delay_seconds <= most


@given(st.lists(free, min_size=1, max_size=98), st.integers(0, 2), st.sampled_from(["JobError", "Killed"]))
def test_what_is_nobodys_fault_leaves_the_jobs_budgets_and_waits_alone(
    ends: list[str], failures: int, cause: str
) -> None:
    """Below their own bound, such ends never end a job. They change nothing about what follows its own failures."""
    policy, counts = RetryPolicy(), dict.fromkeys(OWN_BACKOFF, 0)
    charged = {cause_class(cause): failures}
    for end in ends:
        kind = cause_class(end)
        verdict = after_failure(policy, charged | counts, end)
        assert isinstance(verdict, TryAgain if counts[kind] + 1 < DEFAULT_BUDGET[kind] else GiveUp)
        counts[kind] += 1
    assert after_failure(policy, charged | counts, cause) == after_failure(policy, charged, cause)


@given(free)
def test_a_dependency_or_a_drain_of_two_hours_is_outlasted(cause: str) -> None:
    """Even if each attempt ends at once. No job is left waiting for long after its last end."""
    kind, waited, longest = cause_class(cause), 0.0, 0.0
    for earlier in range(DEFAULT_BUDGET[kind] - 1):
        verdict = after_failure(RetryPolicy(), {kind: earlier}, cause)
        assert isinstance(verdict, TryAgain)
        waited, longest = waited + verdict.delay_seconds, max(longest, verdict.delay_seconds)
    assert waited > 2 * 3600
    assert longest <= 300


def test_policies_and_specs_of_an_older_release_get_the_bounds_of_this_one() -> None:
    old = {"budget": {"error": 1, "infrastructure": 1}}
    for policy in (RetryPolicy.from_json(old), Retry.model_validate(old).policy()):
        assert isinstance(after_failure(policy, {CauseClass.DISRUPTION: 48}, "Drained"), TryAgain)
        assert after_failure(policy, {CauseClass.DISRUPTION: 49}, "Drained") == GiveUp()
        assert after_failure(policy, {}, "Killed") == GiveUp()


def test_advice_for_an_end_promises_no_other_try_and_names_the_job() -> None:
    for name, cause in CAUSES.items():
        ended = cause.advise(4711)
        assert not re.search(r"(is tried|is run|queues) again|it runs when", ended, re.I), name
        for text in (ended, cause.advise(4711, tried_again=True)):
            assert not re.search(r"\bID\b", text), name
    assert "`spoke-jobs retry 4711`" in CAUSES["Drained"].advise(4711)
    assert "tried again" in CAUSES["Drained"].advise(4711, tried_again=True)


def test_every_cause_says_what_it_means_and_what_to_do() -> None:
    for name, cause in CAUSES.items():
        if name != "interrupted_by_migration":  # as the reference's users know it
            assert name.isalnum()
            assert name[0].isupper()
        assert len(name) <= 40
        assert cause.meaning.endswith(".")
        assert cause.advice.endswith(".")
        assert cause.meanwhile.endswith(".")
