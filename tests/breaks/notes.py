"""The notes that a run of pytest takes for `make breaks`: one JSON object per line, from all its processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "BREAKS_NOTES"
"""Names the file for the notes."""


def note(**values: Any) -> None:
    """Add a note."""
    with Path(os.environ[FILE]).open("a") as file:
        file.write(json.dumps(values) + "\n")


@dataclass(slots=True)
class Run:
    """What the notes of a run say."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Of each test that has ended."""
    failed: list[str] = field(default_factory=list)
    """The tests that failed, and last those that came to no end. A file that cannot be imported counts as a test."""
    errors: list[str] = field(default_factory=list)
    """What went wrong in this tool itself."""
    reached: dict[int, set[str]] = field(default_factory=dict)
    """By the number of a probe, the tests that came by."""

    def add(self, other: Run) -> None:
        """Add what another run has noted."""
        self.seconds |= other.seconds
        self.failed += other.failed
        for number, tests in other.reached.items():
            self.reached.setdefault(number, set()).update(tests)

    @property
    def noticed(self) -> list[str]:
        """The names of the failed tests; those of a table once."""
        return list(dict.fromkeys(map(short_name, self.failed)))


def read(lines: Iterable[str]) -> Run:
    """Read the notes of a run."""
    run = Run()
    begun: dict[str, None] = {}
    for line in map(json.loads, lines):
        test = line["test"]
        if "reached" in line:
            run.reached.setdefault(line["reached"], set()).add(test)
        elif line["is"] == "error":
            run.errors.append(test)
        elif line["is"] == "begun":
            begun[test] = None
        elif line["is"] == "ended":
            begun.pop(test, None)
            run.seconds[test] = line["seconds"]
        elif test not in run.failed:
            run.failed.append(test)
    run.failed += [test for test in begun if test not in run.failed]
    return run


def short_name(test: str) -> str:
    """Return the name of a test without its folder and parameters."""
    file, colons, function = test.partition("::")
    return f"{Path(file).stem}{colons}{function.partition('[')[0]}"
