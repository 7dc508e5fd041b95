"""What both runs of the tests say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.second_chance.verdict import COLLECTION, NO_TESTS, Failure, Run, exit_code, gap, judge, may_run_again, merge

BUDGET = 3


def failure(test: str, essential: str = "", text: str = "E   assert 1 == 2") -> Failure:
    return Failure(test=test, phase="call", text=text, seconds=1.0, load=2.0, essential=essential)


def run(passed: str = "", failed: str = "", tests: int = 0, **more: object) -> Run:
    """A run whose tests have names of one letter."""
    return Run(tests, frozenset(passed), tuple(map(failure, failed)), **more)  # type: ignore[arg-type]


KILLED = ("pytest was killed",)


@pytest.mark.parametrize(
    ("first", "second", "again", "summary", "reasons"),
    [
        (run(tests=9), None, False, "9 passed", ()),
        (run(failed="ab", tests=9), run("ab"), True, "9 passed, 2 flaky", ()),
        (run(failed="ab", tests=9), run("a", "b"), True, "1 failed, 8 passed, 1 flaky", ("failed twice: b",)),
        (run(failed="a"), run("a", "a"), True, None, ("failed twice: a",)),  # its teardown fails
        (run(failed="a"), None, True, None, ("failed, and did not pass in the second run: a",)),
        (
            run(failed="ab"),
            run("a", gaps=KILLED),
            True,
            None,
            ("failed, and did not pass in the second run: b", "in the second run pytest was killed"),
        ),
        (run(failed="abcd"), run("abcd"), False, None, ("4 tests failed; a second run is for at most 3",)),
        *(
            (Run(9, frozenset(), (failure("a", stage),)), run("a"), False, None, (f"{stage} failed: assert 1 == 2",))
            for stage in ("cluster", "postgres_url", COLLECTION)
        ),
        # Those marked alone count with the others; what was skipped has not passed.
        (
            merge(run(failed="a", tests=9), run(tests=5, skipped=2), run(failed="b", tests=1)),
            run("ab"),
            True,
            "13 passed, 2 skipped, 2 flaky",
            (),
        ),
        (merge(run(failed="ab"), run(failed="cd")), None, False, None, None),
        # No second run says what the others would have done.
        (merge(run(failed="a"), run(gaps=KILLED)), run("a"), False, None, KILLED),
    ],
)
def test_a_run_passes_if_each_failed_test_passes_once_more(
    first: Run, second: Run | None, again: bool, summary: str | None, reasons: tuple[str, ...] | None
) -> None:
    verdict = judge(first, second, BUDGET)
    assert may_run_again(first, BUDGET) is again
    assert summary in (verdict.summary, None)
    assert reasons in (verdict.reasons, None)


def test_tests_that_were_selected_and_did_not_run_are_a_gap() -> None:
    assert gap(frozenset("abc"), frozenset("b")) == ("2 of 3 tests did not run, such as a",)
    assert gap(frozenset("b"), frozenset("ab")) == ()


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        *(((0, 0), 0), ((0, NO_TESTS), 0), ((NO_TESTS, 0), 0), ((NO_TESTS, NO_TESTS), NO_TESTS), ((1, 0), 1)),
        *(((NO_TESTS, 1), 1), ((1, 2), 2), ((0, 4), 4), ((0, -11), 139), ((-9, 1), 137), ((NO_TESTS, -11), 139)),
    ],
)
def test_a_run_without_tests_is_no_failure_if_the_other_has_some(codes: tuple[int, int], code: int) -> None:
    assert exit_code(*codes) == code


TESTS = st.frozensets(st.sampled_from("abcdef"))


@given(failed=TESTS, again=TESTS, passed=TESTS)
def test_a_run_passes_only_if_every_failed_test_passed_afterwards(
    failed: frozenset[str], again: frozenset[str], passed: frozenset[str]
) -> None:
    first, second = run(failed="".join(failed)), Run(0, passed, tuple(map(failure, again)))
    verdict = judge(first, second, BUDGET)
    assert (verdict.reasons == ()) == (len(failed) <= BUDGET and failed <= passed and not again)
    assert {item.test for item in (*verdict.flaky, *verdict.failed)} == failed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def test():\n>   assert x\nE   assert 0\nE    +  where", "assert 0"),
        ("[gw0] linux -- Python 3.11\nworker 'gw0' crashed", "worker 'gw0' crashed"),
        ("", "no text"),
    ],
)
def test_the_first_error_in_one_line(text: str, line: str) -> None:
    assert failure("a", text=text).first_error == line
