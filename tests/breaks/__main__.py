"""`make breaks`: break each rule of the operator in a copy of this tree, and record which tests fail.

The state machines run first, so that the page names them where they fail. Writes docs/breaks.md. With words as
arguments, writes only the entries of rules that contain one of them. Exits with an error if no test notices a break.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.breaks.plugin import NOTES, noticed
from tests.breaks.rules import BREAKS, Break

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/breaks.md"
TESTS = "tests/unit/operator"
ENOUGH = 4
"""Failures after which a run ends."""
PATIENCE_SECONDS = 90
"""A test that runs longer counts as one that notices: with the rule broken, it may never end."""


def main() -> None:
    """Break all rules, or those that contain one of the words given as arguments."""
    words = sys.argv[1:]
    wanted = [item for item in BREAKS if not words or any(word.lower() in item.rule.lower() for word in words)]
    found: list[tuple[Break, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("operator", "runner", "tests", "examples", "crds", "pyproject.toml"):
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        for number, item in enumerate(wanted, 1):
            began = time.monotonic()
            found.append((item, tests_that_notice(item, copy)))
            count = len(found[-1][1])
            took = f"{time.monotonic() - began:4.0f} s"
            print(f"{number:2}/{len(wanted)} {took}  {count or 'NONE'}  {item.rule}", flush=True)
    rows = {item.rule: row_of(item.rule, tests) for item, tests in found}
    known = rows_of(PAGE.read_text()) | rows
    PAGE.write_text(page([known[item.rule] for item in BREAKS if item.rule in known]))
    if unnoticed := [item.rule for item, tests in found if not tests]:
        sys.exit("noticed by no test: " + "; ".join(unnoticed))


def tests_that_notice(item: Break, copy: Path) -> list[str]:
    """Break the rule, run the tests, and restore the file."""
    path = copy / item.file
    whole = path.read_text()
    if whole.count(item.before) != 1:
        raise ValueError(f"{item.file} has not once, but {whole.count(item.before)} times: {item.before}")
    path.write_text(whole.replace(item.before, item.after))
    plugins = ("-p", "no:cacheprovider", "-p", "tests.breaks.plugin")
    notes = copy / "notes"
    notes.write_text("")
    environment = {"PYTHONPATH": f"{copy}/operator:{copy}/runner", "PYTHONDONTWRITEBYTECODE": "1", NOTES: str(notes)}
    command = [sys.executable, "-m", "pytest", *plugins, "--tb=no", f"--maxfail={ENOUGH}", TESTS]
    try:
        done = subprocess.run(
            command, cwd=copy, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
            check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1, 2):
            raise RuntimeError(done.stdout + done.stderr)
    except subprocess.TimeoutExpired:
        pass
    finally:
        path.write_text(whole)
    return noticed(notes.read_text())


def row_of(rule: str, tests: list[str]) -> str:
    """Return a rule with the tests that notice its break, as an entry of the page."""
    return "\n".join([f"- {rule}", *(f"  - `{test}`" for test in tests)])


def rows_of(text: str) -> dict[str, str]:
    """Return the page's entries by rule."""
    entries = re.findall(r"^- (.+)\n((?:  - .+\n?)*)", text, re.MULTILINE)
    return {rule: f"- {rule}\n{tests}".rstrip("\n") for rule, tests in entries}


def page(rows: list[str]) -> str:
    """Return the page with these entries."""
    return "\n".join(
        [
            "# Rules of the operator, and the tests that check them",
            "",
            "`make breaks` edits a copy of this repository, one edit at a time. Each edit breaks one rule of the",
            f"operator. It runs the operator's unit tests, state machines first, until {ENOUGH} have failed. It",
            "writes this page: each rule, with the tests that failed. It exits with an error if no test notices an",
            "edit. `python -m tests.breaks WORD` runs only the rules that contain WORD. The edits are in",
            "[rules.py](../tests/breaks/rules.py).",
            "",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
