"""What tests wait with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tests import waiting
from tests.waiting import eventually, patient, stays

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]


def test_the_first_true_answer_is_given() -> None:
    answers = iter([None, False, [], "", 0, ["it"]])
    assert eventually(lambda: next(answers)) == ["it"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only in sleeps, which take none."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)


def test_in_vain_it_says_what_it_waited_for_and_how_things_are(clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FACTOR", 2.0)
    with pytest.raises(AssertionError, match="not within 80 s: the end 3 are left"):
        eventually(lambda: None, "the end", within=40, state=lambda: "3 are left")
    assert 80 <= time.monotonic() < 81


def test_a_promise_holds_as_it_is(clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FACTOR", 4.0)
    with pytest.raises(AssertionError, match="not within 5 s: its launch"):
        eventually(lambda: False, "its launch", within=5, promised=True)


def test_without_a_promise_a_small_bound_is_refused() -> None:
    with pytest.raises(AssertionError, match="too small for a busy machine"):
        eventually(lambda: True, within=29)


def test_what_must_not_happen_is_watched_all_the_time(clock: None) -> None:
    assert stays(lambda: True, 10)
    assert not stays(lambda: time.monotonic() < 9, 10)
    assert not stays(lambda: time.monotonic() < 30, 20, every=1000), "it is checked at the end, however seldom before"


def test_a_check_that_takes_long_is_made_less_often(clock: None) -> None:
    """A third of the time is spent on checks, and at most two seconds pass between two of them."""
    checks: list[float] = []

    def check(seconds: float) -> bool:
        time.sleep(seconds)
        checks.append(time.monotonic())
        return False

    with pytest.raises(AssertionError):
        eventually(lambda: check(0.5), within=30, every=0.2)
    assert [after - before for before, after in pairwise(checks)] == [1.5] * (len(checks) - 1)
    checks.clear()
    assert stays(lambda: not check(5), 30)
    assert [after - before for before, after in pairwise(checks)] == [7] * 4
    checks.clear()
    with pytest.raises(AssertionError):
        eventually(lambda: check(0.5), within=10, promised=True)
    assert checks[1] - checks[0] < 0.6, "a promise is measured as closely as before"


@pytest.mark.parametrize(
    ("variables", "factor"),
    [
        ({"CI": "true"}, 4),
        ({"CI": "true", "SPOKE_TEST_PATIENCE": "1.5"}, 1.5),
    ],
)
def test_the_factor_comes_from_the_environment(variables: dict[str, str], factor: float) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "SPOKE_TEST_PATIENCE")}
    command = [sys.executable, "-c", "from tests.waiting import patient; print(patient(10))"]
    done = subprocess.run(
        command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=True, timeout=patient(60)
    )
    assert float(done.stdout) == 10 * factor


def test_the_timeouts_of_tests_are_multiplied(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hook of tests/conftest.py, whatever gave the test its timeout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SPOKE_TEST_PATIENCE", "2")
    pytester.makeconftest("from tests.conftest import pytest_collection_finish")
    pytester.makeini("[pytest]\ntimeout = 200")
    pytester.makepyfile(
        """
import pytest

def timeout(request):
    return request.node.get_closest_marker("timeout").args[0]

def test_plain(request): assert timeout(request) == 400

@pytest.mark.timeout(30)
def test_marked(request): assert timeout(request) == 60

@pytest.mark.timeout(600)
def test_long(request): assert timeout(request) == 1000

@pytest.mark.timeout(1100)
def test_longer(request): assert timeout(request) == 1100
"""
    )
    result = pytester.run(sys.executable, "-m", "pytest", "-q", timeout=patient(120))
    result.assert_outcomes(passed=4)
