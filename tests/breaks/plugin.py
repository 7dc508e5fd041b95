"""A plugin for pytest: it notes which tests notice, and spends no time on the smallest example, or on another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

NOTES = "BREAKS_NOTES"
"""Names the file for the notes: a test's name when it begins; after a `+` when it failed, after a `-` when it ended."""

MACHINES = ("test_interleavings.py", "test_pacing_machine.py", "test_restarts.py")
"""These run first, so that they are named where they notice."""

settings.register_profile("breaks", phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
settings.load_profile("breaks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the machines first. Files named before their directory would not be: pytest drops what it contains."""
    ranks = {name: rank for rank, name in enumerate(MACHINES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(MACHINES)))


def pytest_runtest_logstart(nodeid: str) -> None:
    """It begins."""
    _note(nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A part of it has ended."""
    if report.failed:
        _note(f"+{report.nodeid}")
    if report.when == "teardown":
        _note(f"-{report.nodeid}")


def _note(line: str) -> None:
    with Path(os.environ[NOTES]).open("a") as file:
        file.write(f"{line}\n")


def noticed(notes: str) -> list[str]:
    """The tests that failed, and the one that came to no end; those of a table once."""
    lines = notes.splitlines()
    failed = [line[1:] for line in lines if line.startswith("+")]
    ended = {line[1:] for line in lines if line[0] in "+-"}
    endless = [line for line in lines if line[0] not in "+-" and line not in ended]
    return list(dict.fromkeys(_named(test) for test in failed + endless))


def _named(test: str) -> str:
    file, _, function = test.partition("::")
    return f"{Path(file).stem}::{function.partition('[')[0]}"
