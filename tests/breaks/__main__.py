"""`make breaks`: break each rule, and record which tests fail.

First all tests run without an edit: this shows how long each takes, and which ones come by which edit. With an edit,
only these run: first the ones of the edited module, then the others, the quickest first. If none of them fails, all
tests run. No file is edited: a forked process gives the function that contains the edit other code. Writes
docs/breaks.md. With words as arguments, breaks only the rules that contain one of them, and writes only their entries.
Exits with an error if no test notices an edit.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.breaks.plugin import ENOUGH, Breaker
from tests.breaks.rules import BREAKS, SECTIONS, Break

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/breaks.md"
ROOMS = (
    ("operator/", ("tests/unit/operator",)),
    (
        "runner/spoke_jobs/contract/",
        ("tests/unit/contract", "tests/unit/operator", "tests/unit/runners/test_options.py"),
    ),
    (
        "runner/spoke_jobs/shared/",
        ("tests/unit/shared", "tests/unit/contract", "tests/unit/operator", "tests/unit/runners/test_options.py"),
    ),
    ("runner/spoke_jobs/tasks/server/", ("tests/unit/tasks/server",)),
    ("runner/spoke_jobs/sync/", ("tests/unit/sync",)),
    ("runner/spoke_jobs/limits/", ("tests/unit/limits", "tests/unit/ledger")),
    ("runner/spoke_jobs/cli/", ("tests/unit/cli/test_commands.py",)),
    ("runner/spoke_jobs/web/", ("tests/unit/web/test_dashboard.py", "tests/unit/web/test_start_forms.py")),
    (
        "runner/spoke_jobs/worker/",
        (
            "tests/unit/worker/test_child_pool.py",
            "tests/unit/worker/test_memory_watch.py",
            "tests/unit/worker/test_starts_beside_jobs.py",
        ),
    ),
    ("runner/spoke_jobs/", ("tests/unit/ledger", "tests/unit/runners")),
)
"""The beginning of an edit's path, and the folders and files of tests that may notice it. The first match counts."""
INTRODUCTION = f"""# Rules, and the tests that check them

`make breaks` edits a copy of this repository, one edit at a time. Each edit breaks one rule of the operator, of sync,
of the task server, of the worker, of the ledger and what changes it, or of what they share. It then runs the unit tests
that come by the edit, first those of the edited module, the quickest first, until {ENOUGH} have failed. If none fails,
it runs the other unit tests. It writes this page: each rule, with tests that failed. It exits with an error if no test
notices an edit, or if a test fails without one. `python -m tests.breaks WORD` breaks only the rules that contain WORD.
The edits are in [rules.py](../tests/breaks/rules.py)."""
PROCESSES = os.cpu_count() or 1


def main() -> None:
    """Break all rules, or those that contain one of the words given as arguments."""
    words = sys.argv[1:]
    wanted = [item for item in BREAKS if not words or any(word.lower() in item.rule.lower() for word in words)]
    rows = rows_of(PAGE.read_text())
    problems: list[str] = []

    def report(item: Break, tests: list[str], seconds: float) -> None:
        print(f"{seconds:4.0f} s  {len(tests) or 'NONE'}  {item.rule}", flush=True)
        rows[item.rule] = row_of(item.rule, tests)
        PAGE.write_text(page(rows))  # after each, so that an interrupted run is not lost
        if not tests:
            problems.append(f"noticed by no test: {item.rule}")

    folders = sorted({folder for item in wanted for folder in rooms_of(item)})
    with tempfile.TemporaryDirectory() as folder:
        breaker = Breaker(wanted, ROOT, Path(folder), PROCESSES, rooms_of, report)
        options = ["-q", "-p", "no:cacheprovider", "--capture=no", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main([*options, *folders], plugins=[breaker])
    problems += [f"fails without an edit: {test}" for test in breaker.whole.failed]
    if problems or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit("\n".join(problems) or f"pytest ended with {code}")


def rooms_of(item: Break) -> tuple[str, ...]:
    """Return the folders and files of the tests that may notice an edit."""
    return next(folders for beginning, folders in ROOMS if item.file.startswith(beginning))


def row_of(rule: str, tests: list[str]) -> str:
    """Return a rule with the tests that notice its break, as an entry of the page."""
    return "\n".join([f"- {rule}", *(f"  - `{test}`" for test in tests)])


def rows_of(text: str) -> dict[str, str]:
    """Return the page's entries by rule."""
    entries = re.findall(r"^- (.+)\n((?:  - .+\n?)*)", text, re.MULTILINE)
    return {rule: f"- {rule}\n{tests}".rstrip("\n") for rule, tests in entries}


def page(rows: Mapping[str, str]) -> str:
    """Return the page with these entries, by rule."""
    lines = [INTRODUCTION]
    for heading, items in SECTIONS.items():
        if entries := [rows[item.rule] for item in items if item.rule in rows]:
            lines += ["", f"## {heading}", "", *entries]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
