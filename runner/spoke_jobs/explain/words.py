"""Format times, counts and texts for people; for durations see :mod:`spoke_jobs.shared.durations`."""

from __future__ import annotations

from datetime import datetime, tzinfo

from spoke_jobs.shared.clean_text import visible
from spoke_jobs.shared.durations import age as age  # these are for those who format with what is here
from spoke_jobs.shared.durations import ago as ago
from spoke_jobs.shared.durations import seconds as seconds
from spoke_jobs.shared.durations import until as until


def line(text: str, limit: int | None = None) -> str:
    """Put a text on one line: spaces for newlines and tabs, visible escapes for control characters."""
    whole = visible(" ".join(text.split()))
    return whole if limit is None or len(whole) <= limit else f"{whole[: limit - 1]}…"


def lines(text: str) -> list[str]:
    """Split a text into lines, with spaces for tabs and visible escapes for control characters."""
    return [visible(part.expandtabs(4)) for part in text.splitlines()]


def memory(amount: int) -> str:
    """Format an amount of memory in bytes: ``58 MiB``, ``1,036 MiB``, ``12.5 GiB``.

    Bounds are often whole GiB. A peak shall not look like the bound that it exceeded.
    """
    mebibytes = amount / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_239.5 else f"{mebibytes / 1024:,.1f} GiB"


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
