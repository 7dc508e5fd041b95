"""Small charts of counts by minute, as bars of an SVG image. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spoke_jobs.explain.words import count
from spoke_jobs.ledger.reading.ended_counts import MINUTES

HEIGHT = 40
STEP = 4
"""The distance between two bars. A bar is one unit narrower."""
WIDTH = MINUTES * STEP


@dataclass(frozen=True, slots=True)
class Bar:
    """A minute."""

    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A chart of the last hour."""

    name: str
    """For ids and the style sheet."""
    text: str
    """What the chart shows, in words."""
    bars: tuple[Bar, ...]
    """Of the minutes that are not empty."""
    width: int = WIDTH
    height: int = HEIGHT
    bar_width: int = STEP - 1


def sparkline(name: str, numbers: Sequence[int], what: str, *, complete: bool = True) -> Sparkline:
    """Draw the numbers of the last minutes, the oldest first.

    :param what: what the jobs did, as in ``ended``.
    :param complete: whether there are no others.
    """
    total, most = sum(numbers), max(numbers, default=0)
    if not total:
        text = f"No job {what} in the last hour." if complete else f"No job was found that {what} in the last hour."
        return Sparkline(name, text, ())
    ago = len(numbers) - 1 - max(index for index, number in enumerate(numbers) if number == most)
    when = f"{ago} min ago" if ago else "the current one"
    busiest = f" The busiest minute was {when}, with {most:,}." if most > 1 else ""
    text = f"{count(total, 'job')} {what} in the last hour.{busiest}"
    bars = tuple(_bar(index, number, most) for index, number in enumerate(numbers) if number > 0)
    return Sparkline(name, text, bars)


def _bar(index: int, number: int, most: int) -> Bar:
    height = max(round(HEIGHT * number / most), 1)
    return Bar(index * STEP, HEIGHT - height, height)
