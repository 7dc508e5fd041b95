"""`make breaks`: break each rule of the operator in a copy of this tree, and see which tests notice.

The state machines run first, so that they are named where they notice. Writes docs/breaks.md; fails if no test noticed
a break.
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

from tests.breaks.rules import BREAKS, Break

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/breaks.md"
MACHINES = ("interleavings", "pacing_machine", "restarts")
TESTS = [*(f"tests/unit/operator/test_{name}.py" for name in MACHINES), "tests/unit/operator"]
ENOUGH = 4
"""Failures after which a run ends."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py)(?:::(\S+))?", re.MULTILINE)


def main() -> None:
    """Break all, or those whose rule has one of the words that were given."""
    words = sys.argv[1:]
    wanted = [item for item in BREAKS if not words or any(word.lower() in item.rule.lower() for word in words)]
    noticed: list[tuple[Break, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("operator", "runner", "tests", "examples", "crds", "pyproject.toml"):
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        for number, item in enumerate(wanted, 1):
            began = time.monotonic()
            noticed.append((item, tests_that_notice(item, copy)))
            count = len(noticed[-1][1])
            took = f"{time.monotonic() - began:4.0f} s"
            print(f"{number:2}/{len(wanted)} {took}  {count or 'NONE'}  {item.rule}", flush=True)
    if not words:
        PAGE.write_text(page(noticed))
    if unnoticed := [item.rule for item, tests in noticed if not tests]:
        sys.exit("noticed by no test: " + "; ".join(unnoticed))


def tests_that_notice(item: Break, copy: Path) -> list[str]:
    """Break, run, mend."""
    path = copy / item.file
    whole = path.read_text()
    if whole.count(item.before) != 1:
        raise ValueError(f"{item.file} has not once, but {whole.count(item.before)} times: {item.before}")
    path.write_text(whole.replace(item.before, item.after))
    options = (
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.breaks.no_shrinking",
        "--tb=no",
        f"--maxfail={ENOUGH}",
    )
    environment = os.environ | {"PYTHONPATH": f"{copy}/operator:{copy}/runner", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        command = [sys.executable, "-m", "pytest", *options, *TESTS]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(whole)
    if done.returncode not in (0, 1, 2):
        raise RuntimeError(done.stdout + done.stderr)
    return [name for name, _ in dict.fromkeys((named(*match), 0) for match in _FAILED.findall(done.stdout))]


def named(file: str, test: str) -> str:
    """A test as the page has it."""
    module = Path(file).stem
    function = test.partition("[")[0]
    return f"{module}::{function}" if function else module


def page(noticed: list[tuple[Break, list[str]]]) -> str:
    """All of it as a table."""
    rows = [f"| {item.rule} | {'<br>'.join(f'`{test}`' for test in tests)} |" for item, tests in noticed]
    return "\n".join(
        [
            "# The operator's rules, each broken once",
            "",
            "`make breaks` breaks each rule in a copy of this tree ([rules.py](../tests/breaks/rules.py) has the",
            f"edits), runs the operator's unit tests, state machines first, until {ENOUGH} have failed, and writes",
            "this page. It fails if a break is noticed by none.",
            "",
            "| rule | noticed by |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
