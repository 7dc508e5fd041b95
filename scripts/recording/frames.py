"""How long each screen is shown, and which rows stay from one to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from scripts.recording.screen import Row, Screen


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast screens follow one another, all in seconds but ``frames``, the number of them at most."""

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
    """Each with its number on the screen."""


def frames(screens: Sequence[Screen], pace: Pace) -> tuple[Frame, ...]:
    """The frames of a film: no screen too short, none too long, not too many; the last one stays for a while."""
    every = pace.every
    kept = _thinned(screens, every)
    while len(kept) > pace.frames:
        every *= 1.2
        kept = _thinned(screens, every)
    ends = [min(after.at - screen.at, pace.longest) for screen, after in pairwise(kept)]
    return tuple(Frame(screen.rows, seconds) for screen, seconds in zip(kept, [*ends, pace.hold], strict=True))


def _thinned(screens: Sequence[Screen], every: float) -> list[Screen]:
    """Where several follow one another too quickly, the last of them, from when the first was seen."""
    kept: list[Screen] = []
    for screen in screens:
        if kept and screen.at - kept[-1].at < every:
            kept[-1] = Screen(kept[-1].at, screen.rows)
        else:
            kept.append(screen)
    return kept


def layers(shown: Sequence[Frame]) -> tuple[Layer, ...]:
    """The frames' rows, each once for as long as it stays where it is; those that come and go together, together."""
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
