"""Both runs as ``make test`` makes them: real pytest, with pytest-xdist's processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
FLAKY = """
import os, pathlib, time, pytest

def first_time(name):
    marker = pathlib.Path(name)
    was_there = marker.exists()
    marker.touch()
    return not was_there
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a module's tests; gives what was printed, with the exit code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others only take time here
    for name in ("CI", "SPOKE_TEST_FLAKY_REPORT", "SPOKE_TEST_FLAKY_BUDGET"):  # those of the run that this test is in
        monkeypatch.delenv(name, raising=False)

    def run_module(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=FLAKY + source)
        options = ("-p", "xdist", "-p", "pytest_timeout", "--numprocesses=2", "--dist=loadscope", *arguments)
        return pytester.run(sys.executable, "-m", "tests.second_chance", *options, timeout=120)

    return run_module


def report(pytester: pytest.Pytester) -> Any:
    return json.loads((pytester.path / "build/flaky.json").read_text())


def test_flaky_tests_are_listed_and_the_run_passes(run: Any, pytester: pytest.Pytester, monkeypatch: Any) -> None:
    """One fails at first, one ends its process, one hangs until its timeout, and one's teardown fails."""
    monkeypatch.setenv("CI", "true")
    result = run(
        """
def test_good(): pass

@pytest.mark.parametrize("word", ["a/b::c [d]"])
def test_fails_at_first(word): assert not first_time("fails")

def test_ends_its_process():
    if first_time("crash"): os._exit(3)

@pytest.mark.timeout(2)
def test_hangs():
    if first_time("hang"): time.sleep(60)

@pytest.fixture
def untidy():
    yield
    assert not first_time("untidy")

def test_teardown(untidy): pass
"""
    )
    assert result.ret == 0
    lines = result.outlines
    table = lines[lines.index("FLAKY 4 of 5") :]
    assert [line.split("::", 1)[1] for line in table if line.startswith("  test_it.py")] == [
        failure["test"].split("::", 1)[1] for failure in report(pytester)["flaky"]
    ]
    content = {failure["test"].partition("::")[2]: failure for failure in report(pytester)["flaky"]}
    assert {name: failure["phase"] for name, failure in content.items()} == {
        "test_fails_at_first[a/b::c [d]]": "call",
        "test_ends_its_process": "crash",
        "test_hangs": "call",
        "test_teardown": "teardown",
    }
    assert all(failure["load"] >= 0 and failure["text"] for failure in content.values())
    assert "Timeout" in content["test_hangs"]["text"]
    result.stdout.fnmatch_lines(["*first failure of test_it.py::test_fails_at_first*call, after*load*"])
    assert sum("passed" in line and line.startswith("=") for line in lines) == 2, "both runs have pytest's closing line"


def test_what_fails_twice_fails_the_run(run: Any, pytester: pytest.Pytester) -> None:
    result = run("def test_bad(): assert 0\ndef test_flaky(): assert not first_time('x')\ndef test_good(): pass")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FLAKY 1 of 3", "FAILED 1 of 3", "the run fails: failed twice: test_it.py::test_bad"])
    assert [failure["test"] for failure in report(pytester)["failed"]] == ["test_it.py::test_bad"]


def test_over_budget(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_TEST_FLAKY_BUDGET", "1")
    result = run("@pytest.mark.parametrize('n', '12')\ndef test_flaky(n): assert not first_time(n)")
    assert result.ret == 1
    assert result.outlines[-1] == "the run fails: 2 tests failed; a second run is for at most 1"


def test_an_essential_fixture_fails(run: Any) -> None:
    result = run(
        """
@pytest.fixture(scope="session")
def postgres_url():
    if first_time("postgres"): pytest.fail("no PostgreSQL")

def test_a(postgres_url): pass
"""
    )
    assert result.ret == 1
    assert result.outlines[-1] == "the run fails: postgres_url failed: Failed: no PostgreSQL"


def test_a_fixture_of_a_test_s_own_that_fails_has_a_second_chance(run: Any) -> None:
    result = run(
        """
@pytest.fixture
def cluster():
    if first_time("namespace"): pytest.fail("no namespace")

def test_a(cluster): pass
"""
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["FLAKY 1 of 1"])


def test_a_module_that_cannot_be_collected(run: Any) -> None:
    result = run("import nothing_of_that_name")
    assert result.ret != 0
    assert result.outlines[-1].startswith("the run fails: the collection failed: ")


def test_nothing_failed(run: Any, pytester: pytest.Pytester) -> None:
    result = run("def test_good(): pass")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*FLAKY*")
    assert report(pytester)["flaky"] == []


def test_no_test_is_no_pass(run: Any) -> None:
    assert run("def test_good(): pass", "-k", "nothing").ret == 5
