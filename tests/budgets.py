"""What each room's tests may take in `make test`: tests/budgets.toml, printed beside what a run took.

A room that takes more than half as much again does not fail that run. It fails the next change's `make lint`, which is
``python -m tests.budgets``, until somebody changes its tests or its budget.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_name("budgets.toml")
BUDGETS: Mapping[str, float] = tomllib.loads(FILE.read_text())["seconds"]
"""Seconds by room, such as ``unit/web``."""

RECORD_VARIABLE = "SPOKE_TEST_ROOMS"
"""Names the file in which a run of all tests keeps what each room took. It is in the user's cache, for all clones."""
BY_HALF = 1.5


def room_of(test: str) -> str:
    """The room of a test: ``unit/web``; ``e2e`` is one, and so is what is in none (``unit``)."""
    level, *folders = test.partition("::")[0].split("/")[1:-1]
    return level if level == "e2e" or not folders else f"{level}/{folders[0]}"


def over(took: Mapping[str, float], budgets: Mapping[str, float] = BUDGETS) -> dict[str, float]:
    """The rooms that are over their budgets by half, and what they took on a machine of usual speed.

    On a machine that is slow or busy all rooms take longer. So what counts is what a room took beside the others.

    :param took: seconds by room.
    """
    slowness = max(1.0, sum(took.values()) / sum(budgets.values()))
    usual = {room: seconds / slowness for room, seconds in took.items()}
    return {room: seconds for room, seconds in usual.items() if seconds > BY_HALF * budgets.get(room, 10.0)}


def record(took: Mapping[str, float], file: Path) -> None:
    """Keep what the rooms took at this commit."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"commit": _git("rev-parse", "HEAD"), "took": dict(took)}))


def main() -> int:
    """Compare the last recorded run, if there is one of an earlier commit. Return the exit code."""
    file = Path(os.environ[RECORD_VARIABLE])
    if not file.exists():
        return 0
    run = json.loads(file.read_text())
    commit = run["commit"]
    if commit == _git("rev-parse", "HEAD") or not _git("cat-file", "-t", commit):  # the same change, or another clone's
        return 0
    changed = _git("diff", "--name-only", commit, "--", "tests").split()
    late = 0
    for room, seconds in over(run["took"]).items():
        if str(FILE.relative_to(ROOT)) not in changed and not any(room_of(path) == room for path in changed):
            late += 1
            budget = f"{BUDGETS[room]:.0f} s" if room in BUDGETS else "no budget"
            print(f"tests/{room} took {seconds:.0f} s at {commit[:10]}, and has {budget} in tests/budgets.toml:")
            print("make it quicker (the run's end lists the slowest tests), or say in the file why it needs more")
    return 1 if late else 0


def _git(*arguments: str) -> str:
    """What git prints; nothing if it refuses."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
