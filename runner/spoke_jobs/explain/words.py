"""Format times, durations, counts and texts for people."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from spoke_jobs.shared.clean_text import visible

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def line(text: str, limit: int | None = None) -> str:
    """Put a text on one line: spaces for newlines and tabs, visible escapes for control characters."""
    whole = visible(" ".join(text.split()))
    return whole if limit is None or len(whole) <= limit else f"{whole[: limit - 1]}…"


def lines(text: str) -> list[str]:
    """Split a text into lines, with spaces for tabs and visible escapes for control characters."""
    return [visible(part.expandtabs(4)) for part in text.splitlines()]


def seconds(value: float) -> str:
    """Format a duration by its largest units: ``4.8 s``, ``3 min 20 s``, ``2 h 5 min``, ``7 d``."""
    if value < 119.95:
        return f"{value:.1f} s" if value < 9.95 and value != int(value) else f"{value:.0f} s"
    for index, (unit, size) in enumerate(_UNITS):
        if value >= size:
            whole = int(value // size)
            rest = int(value % size) // _UNITS[index + 1][1] if index + 1 < len(_UNITS) else 0
            few = whole < 10 and rest > 0  # "3 d 2 h", but "30 d"
            return f"{whole} {unit} {rest} {_UNITS[index + 1][0]}" if few else f"{whole} {unit}"
    raise AssertionError("unreachable")


def memory(amount: int) -> str:
    """Format an amount of memory in bytes: ``58 MiB``, ``1,036 MiB``, ``12.5 GiB``.

    Bounds are often whole GiB. A peak shall not look like the bound that it exceeded.
    """
    mebibytes = amount / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_239.5 else f"{mebibytes / 1024:,.1f} GiB"


def ago(then: datetime, now: datetime) -> str:
    """Format how long ago a time was. A time in the future (another machine's clock is ahead) is 0 s ago."""
    return f"{seconds(max((now - then).total_seconds(), 0))} ago"


def until(then: datetime, now: datetime) -> str:
    """Format how far away a time is."""
    return f"in {seconds(max((then - now).total_seconds(), 0))}"


def moment(when: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """Format a date and a time in the reader's zone, and how far away it is."""
    far = until(when, now) if when > now else ago(when, now)
    return f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S %Z} ({far})"


def clock(then: datetime, now: datetime) -> str:
    """Format the time of day in the zone of `now`, which is the reader's, with the date if it is not today."""
    local, today = then.astimezone(now.tzinfo), now.date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def day_and_time(then: datetime, now: datetime) -> str:
    """Format a time with its day in the zone of `now`, which is the reader's: ``Tue 2026-12-01 02:30:00 UTC``."""
    local = then.astimezone(now.tzinfo)
    return f"{local:%a %Y-%m-%d %H:%M:%S %Z}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Format a number with its noun: ``1 job``, ``5 jobs``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def agreeing(number: int, one: str, many: str) -> str:
    """Return the form of a verb or a pronoun that agrees with a number: ``is`` or ``are``."""
    return one if number == 1 else many


def ordinal(number: int) -> str:
    """Format an ordinal number: ``1st``, ``2nd``, ``12th``."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def age(then: datetime, now: datetime) -> str:
    """Format an age in one unit."""
    elapsed = max(now - then, timedelta(0)).total_seconds()
    for unit, size in _UNITS:
        if elapsed >= 2 * size and size > 1:
            return f"{int(elapsed // size)} {unit}"
    return f"{int(elapsed)} s"
