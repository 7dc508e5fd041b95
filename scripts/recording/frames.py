"""Compute how long each screen is shown, and which rows stay the same from one frame to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from scripts.recording.screen import Row, Screen


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of the film, in seconds. ``frames`` is the largest number of frames."""

    every: float = 0.1
    longest: float = 2.0
    hold: float = 6.0
    frames: int = 200


@dataclass(frozen=True, slots=True)
class Frame:
    """A screen, and for how many seconds it is shown."""

    rows: tuple[Row, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Layer:
    """Rows that are shown together: from the frame ``first`` until before the frame ``end``."""

    first: int
    end: int
    rows: tuple[tuple[int, Row], ...]
    """Each row with its number on the screen, from 0."""


def frames(screens: Sequence[Screen], pace: Pace) -> tuple[Frame, ...]:
    """Compute the frames: limit their number and the time of each, and hold the last one."""
    every = pace.every
    kept = _thinned(screens, every)
    while len(kept) > pace.frames:
        every *= 1.2
        kept = _thinned(screens, every)
    ends = [min(after.at - screen.at, pace.longest) for screen, after in pairwise(kept)]
    return tuple(Frame(screen.rows, seconds) for screen, seconds in zip(kept, [*ends, pace.hold], strict=True))


def _thinned(screens: Sequence[Screen], every: float) -> list[Screen]:
    """Of screens that follow each other too quickly, keep the last, with the time of the first."""
    kept: list[Screen] = []
    for screen in screens:
        if kept and screen.at - kept[-1].at < every:
            kept[-1] = Screen(kept[-1].at, screen.rows)
        else:
            kept.append(screen)
    return kept


def layers(shown: Sequence[Frame]) -> tuple[Layer, ...]:
    """Group the rows: each layer has the rows that appear and disappear in the same frames."""
    found: dict[tuple[int, int], list[tuple[int, Row]]] = defaultdict(list)
    height = max((len(frame.rows) for frame in shown), default=0)
    for y in range(height):
        at = 0
        for row, same in groupby(frame.rows[y] for frame in shown):
            end = at + sum(1 for _ in same)
            if row:
                found[at, end].append((y, row))
            at = end
    return tuple(Layer(first, end, tuple(rows)) for (first, end), rows in sorted(found.items()))
