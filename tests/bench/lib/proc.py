"""What /proc says of the processes of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as it was when it was looked at."""

    pid: int
    command: str
    """Its first fifteen letters; the kernel keeps no more."""
    is_zombie: bool
    parent: int
    session: int
    seconds: float
    """Of the processor."""
    seconds_of_ended_children: float


def processes() -> Iterator[Process]:
    """All that there are; one that ends meanwhile is left out."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            head, _, tail = (folder / "stat").read_text().rpartition(")")
            fields = tail.split()
            own, of_children = (sum(map(int, fields[at : at + 2])) / TICKS_PER_SECOND for at in (11, 13))
            yield Process(
                pid=int(folder.name),
                command=head.partition("(")[2],
                is_zombie=fields[0] == "Z",
                parent=int(fields[1]),
                session=int(fields[3]),
                seconds=own,
                seconds_of_ended_children=of_children,
            )
