"""What both runs of the tests say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.second_chance.verdict import COLLECTION, NO_TESTS, Failure, Run, exit_code, gap, judge, may_run_again, merge

BUDGET = 3


def failure(test: str, essential: str = "", text: str = "E   assert 1 == 2") -> Failure:
    return Failure(test=test, phase="call", text=text, seconds=1.0, load=2.0, essential=essential)


def first_run(*failed: str) -> Run:
    return Run(100, frozenset({"good"}), tuple(map(failure, failed)))


def second_run(passed: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> Run:
    return Run(len(passed) + len(failed), frozenset(passed), tuple(map(failure, failed)))


def test_nothing_failed() -> None:
    verdict = judge(first_run(), None, BUDGET)
    assert (verdict.flaky, verdict.failed, verdict.reasons) == ((), (), ())
    assert verdict.summary == "100 passed"
    assert not may_run_again(first_run(), BUDGET)


def test_what_passes_in_the_second_run_is_flaky_and_fails_nothing() -> None:
    first = first_run("a", "b")
    assert may_run_again(first, BUDGET)
    verdict = judge(first, second_run(passed=("a", "b")), BUDGET)
    assert verdict.flaky == first.failures
    assert verdict.reasons == ()


def test_what_was_skipped_has_not_passed() -> None:
    first = merge(first_run("a"), Run(5, skipped=2), Run(3, skipped=1))
    verdict = judge(first, second_run(passed=("a",)), BUDGET)
    assert verdict.summary == "105 passed, 3 skipped, 1 flaky"
    assert judge(Run(5, skipped=2, gaps=("killed",)), None, BUDGET).summary == "3 passed, 2 skipped"


def test_what_fails_twice_fails_the_run_by_name() -> None:
    verdict = judge(first_run("a", "b"), second_run(passed=("a",), failed=("b",)), BUDGET)
    assert verdict.summary == "1 failed, 99 passed, 1 flaky"
    assert [item.test for item in verdict.flaky] == ["a"]
    assert [item.test for item in verdict.failed] == ["b"]
    assert verdict.reasons == ("failed twice: b",)


@pytest.mark.parametrize("second", [None, second_run(passed=("a",))], ids=["no second run", "not in the second run"])
def test_what_does_not_run_again_fails_the_run(second: Run | None) -> None:
    assert any("second run: b" in reason for reason in judge(first_run("a", "b"), second, BUDGET).reasons)


def test_a_test_that_passes_and_whose_teardown_fails_has_not_passed() -> None:
    second = Run(1, frozenset({"a"}), (failure("a"),))
    assert judge(first_run("a"), second, BUDGET).reasons == ("failed twice: a",)


def test_more_failures_than_the_budget_are_not_run_again() -> None:
    assert may_run_again(first_run("a", "b", "c"), BUDGET)
    first = first_run("a", "b", "c", "d")
    assert not may_run_again(first, BUDGET)
    assert judge(first, second_run(passed=("a", "b", "c", "d")), BUDGET).reasons == (
        "4 tests failed; a second run is for at most 3",
    )


@pytest.mark.parametrize("essential", ["cluster", "postgres_url", COLLECTION])
def test_a_failed_stage_fails_the_run_at_once(essential: str) -> None:
    first = Run(100, frozenset(), (failure("a", essential),))
    assert not may_run_again(first, BUDGET)
    assert judge(first, second_run(passed=("a",)), BUDGET).reasons == (f"{essential} failed: assert 1 == 2",)


def test_the_run_of_tests_marked_alone_counts_with_the_others() -> None:
    whole = merge(first_run("a", "b"), Run(2, frozenset({"c"}), (failure("d"),)))
    assert (whole.tests, whole.passed) == (102, {"good", "c"})
    assert [item.test for item in whole.failures] == ["a", "b", "d"]
    assert not may_run_again(merge(whole, first_run("e")), BUDGET), "the budget is one"


def test_a_run_without_some_of_its_tests_fails_at_once() -> None:
    """No second run says what they would have done."""
    first = merge(first_run("a"), Run(gaps=("pytest was killed",)))
    assert not may_run_again(first, BUDGET)
    assert judge(first, second_run(passed=("a",)), BUDGET).reasons == ("pytest was killed",)


def test_a_second_run_without_some_of_its_tests_says_so() -> None:
    again = Run(1, frozenset({"a"}), gaps=("pytest was killed",))
    reasons = judge(first_run("a", "b"), again, BUDGET).reasons
    assert reasons == ("failed, and did not pass in the second run: b", "in the second run pytest was killed")


def test_tests_that_were_selected_and_did_not_run_are_a_gap() -> None:
    assert gap(frozenset("abc"), frozenset("b")) == ("2 of 3 tests did not run, such as a",)
    assert gap(frozenset("b"), frozenset("ab")) == ()


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((0, NO_TESTS), 0), ((NO_TESTS, 0), 0), ((NO_TESTS, NO_TESTS), NO_TESTS),
                        ((1, 0), 1), ((NO_TESTS, 1), 1), ((1, NO_TESTS), 1), ((1, 2), 2), ((0, 4), 4),
                        ((0, -11), 139), ((-9, 1), 137), ((NO_TESTS, -11), 139), ((-11,), 139)]
)  # fmt: skip
def test_a_run_without_tests_is_no_failure_if_the_other_has_some(codes: tuple[int, int], code: int) -> None:
    assert exit_code(*codes) == code


TESTS = st.frozensets(st.sampled_from("abcdef"))


@given(failed=TESTS, again=TESTS, passed=TESTS)
def test_a_run_passes_only_if_every_failed_test_passed_afterwards(
    failed: frozenset[str], again: frozenset[str], passed: frozenset[str]
) -> None:
    first, second = first_run(*failed), Run(0, passed, tuple(map(failure, again)))
    verdict = judge(first, second, BUDGET)
    assert (verdict.reasons == ()) == (len(failed) <= BUDGET and failed <= passed and not again)
    assert {item.test for item in (*verdict.flaky, *verdict.failed)} == failed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def test():\n>   assert x\nE   assert 0\nE    +  where", "assert 0"),
        (
            "[gw0] linux -- Python 3.11\nworker 'gw0' crashed while running 'a'",
            "worker 'gw0' crashed while running 'a'",
        ),
        ("", "no text"),
    ],
)
def test_the_first_error_in_one_line(text: str, line: str) -> None:
    assert failure("a", text=text).first_error == line
