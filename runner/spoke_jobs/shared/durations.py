"""Durations as people read them. The same duration reads the same in messages, in tables, on pages and in sentences."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_TENTHS_BELOW = 9.95
_SECONDS_BELOW = 59.5
"""What is rounded to a minute is called one."""


def seconds(value: float) -> str:
    """Format a duration by its largest units: ``4.8 s``, ``1 min 38 s``, ``2 h 5 min``, ``7 d``.

    The second unit is left out if it is none, or small beside the first: ``30 d``.

    :param value: in seconds, from 0.
    """
    if value < _SECONDS_BELOW:
        return f"{value:.1f} s" if value < _TENTHS_BELOW and value != int(value) else f"{value:.0f} s"
    elapsed = max(int(value), 60)
    index = next(index for index, (_, size) in enumerate(_UNITS) if elapsed >= size)
    unit, size = _UNITS[index]
    smaller, smaller_size = _UNITS[index + 1]
    whole, rest = elapsed // size, elapsed % size // smaller_size
    return f"{whole} {unit} {rest} {smaller}" if whole < 10 and rest > 0 else f"{whole} {unit}"


def age(then: datetime, now: datetime) -> str:
    """Format the time since then. Of a time in the future (another machine's clock is ahead) it is 0 s."""
    return seconds(max((now - then).total_seconds(), 0))


def ago(then: datetime, now: datetime) -> str:
    """Format how long ago a time was."""
    return f"{age(then, now)} ago"


def until(then: datetime, now: datetime) -> str:
    """Format how far away a time is. Of a time that is over it is 0 s."""
    return f"in {age(now, then)}"
