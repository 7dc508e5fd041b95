"""What is recorded of the reports of tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.second_chance.recorder import Recorder, read
from tests.second_chance.verdict import Run

SESSION: Any = SimpleNamespace(config=SimpleNamespace(cache=None))


def report(test: str, when: str = "call", outcome: str = "passed", **more: Any) -> pytest.TestReport:
    return pytest.TestReport(test, ("", 0, ""), {}, outcome, more.pop("text", None), when, **more)  # type: ignore[arg-type]


def recorded(tmp_path: Path, *reports: pytest.TestReport) -> Run:
    recorder = Recorder(tmp_path / "record.json")
    for item in reports:
        recorder.pytest_runtest_logreport(item)
    recorder.pytest_sessionfinish(SESSION, 0)
    run = read(tmp_path / "record.json")
    assert run is not None
    return run


def test_skipped_tests_are_counted_unless_their_teardown_fails(tmp_path: Path) -> None:
    run = recorded(
        tmp_path,
        report("good"),
        report("skipped", "setup", "skipped"),
        report("expected to fail", "call", "skipped"),
        report("untidy", "call", "skipped"),
        report("untidy", "teardown", "failed", text="E   untidy"),
    )
    assert (run.tests, run.passed, run.skipped) == (4, frozenset({"good"}), 2)
    assert [failure.test for failure in run.failures] == ["untidy"]
