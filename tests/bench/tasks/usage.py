"""What processes took of the processor, children that have ended included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench.lib.proc import Process, processes


def session_seconds(leader: int) -> float:
    """Of all processes of a session."""
    return _seconds(process for process in processes() if process.session == leader)


def tree_seconds(root: int) -> float:
    """Of a process and all that stem from it."""
    found = list(processes())
    tree = {root}
    grown = True
    while grown:
        more = {process.pid for process in found if process.parent in tree} - tree
        grown = bool(more)
        tree |= more
    return _seconds(process for process in found if process.pid in tree)


def pid_of(program: str, matches: Callable[[str], bool]) -> int | None:
    """The oldest process of a program whose command line matches."""
    for pid in sorted(process.pid for process in processes()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if program in words.partition(" ")[0] and matches(words):
                return pid
    return None


def _seconds(found: Iterable[Process]) -> float:
    return sum(process.seconds + process.seconds_of_ended_children for process in found)
