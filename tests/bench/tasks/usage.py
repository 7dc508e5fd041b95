"""What processes took of the processor, children that have ended included."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def session_seconds(leader: int) -> float:
    """Of all processes of a session."""
    return sum(own + ended for _, _, session, own, ended in _processes() if session == leader)


def tree_seconds(root: int) -> float:
    """Of a process and all that stem from it."""
    found = list(_processes())
    tree = {root}
    grown = True
    while grown:
        more = {pid for pid, parent, *_ in found if parent in tree} - tree
        grown = bool(more)
        tree |= more
    return sum(own + ended for pid, _, _, own, ended in found if pid in tree)


def pid_of(program: str, matches: Callable[[str], bool]) -> int | None:
    """The oldest process of a program whose command line matches."""
    for pid, *_ in sorted(_processes()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if program in words.partition(" ")[0] and matches(words):
                return pid
    return None


def _processes() -> Iterator[tuple[int, int, int, float, float]]:
    """pid, parent, session, its seconds, those of its ended children."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            times = [int(field) / _TICK for field in fields[11:15]]
            yield int(folder.name), int(fields[1]), int(fields[3]), times[0] + times[1], times[2] + times[3]
