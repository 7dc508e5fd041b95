"""The report of where a run's time went."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.timings import FILE_VARIABLE, LONG_RUN_SECONDS, Timings


def report(process: str, when: str, start: float, stop: float) -> pytest.TestReport:
    node = SimpleNamespace(gateway=SimpleNamespace(id=process))
    test = f"tests/unit/test_{process}.py::test_it"
    made: Any = pytest.TestReport(test, ("", 0, ""), {}, "passed", None, when, duration=stop - start, stop=stop)  # type: ignore[arg-type]
    made.node = node
    return made  # type: ignore[no-any-return]


def test_a_process_that_crashed_ended_with_its_last_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of the crash, which pytest-xdist makes, has no time."""
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    timings = Timings()
    lines: list[str] = []
    for item in (
        report("gw0", "call", 1000, 1000 + LONG_RUN_SECONDS),
        report("gw1", "call", 1000, 1020),
        report("gw1", "???", 0, 0),
        report("gw2", "???", 0, 0),
    ):
        timings.pytest_runtest_logreport(item)
    terminal: Any = SimpleNamespace(write_line=lines.append, section=lambda title: None)
    timings.pytest_terminal_summary(terminal)
    ends = [line.partition("tests in process ")[2] for line in lines if "tests in process" in line]
    assert ends == [
        "gw0, which ended 0.0 s before the last",
        "gw1, which ended 40.0 s before the last",
        "gw2, which ended before any of its tests did",
    ]
