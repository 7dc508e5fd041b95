"""What tests wait with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import conftest, waiting
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
    for module in (conftest, waiting):
        monkeypatch.setattr(module, "FACTOR", 2.0)
    pytester.makeini("[pytest]\ntimeout = 200\nasyncio_default_fixture_loop_scope = function")
    marks = {"plain": "", "marked": "(30)", "long": "(600)", "longer": "(1100)"}
    text = "\n".join(
        f"{mark and f'@pytest.mark.timeout{mark}'}\ndef test_{name}(): ..." for name, mark in marks.items()
    )
    items = pytester.getitems(f"import pytest\n{text}")
    conftest.pytest_collection_finish(SimpleNamespace(items=items, config=items[0].config))  # type: ignore[arg-type]
    seconds = {item.name: mark.args[0] for item in items if (mark := item.get_closest_marker("timeout"))}
    assert seconds == {"test_plain": 400, "test_marked": 60, "test_long": 1000, "test_longer": 1100}
