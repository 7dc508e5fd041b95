"""Times, durations and texts as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.unit.explain.situations import NOW, after, before

from spoke_jobs.explain import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (4.83, "4.8 s"),
        (5, "5 s"),
        (61.4, "61 s"),
        (119.96, "1 min 59 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (36_600, "10 h"),
        (7 * 86_400, "7 d"),
        (86_400 + 7_300, "1 d 2 h"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("gap", "text"), [(0.4, "0 s"), (119, "119 s"), (7_199, "119 min"), (7_200, "2 h"), (200_000, "2 d"), (-3, "0 s")]
)
def test_ages(gap: float, text: str) -> None:
    assert words.age(before(seconds=gap), NOW) == text


def test_clocks_that_differ_give_no_negative_times() -> None:
    assert words.ago(after(seconds=2), NOW) == "0 s ago"
    assert words.until(before(seconds=2), NOW) == "in 0 s"


def test_a_time_of_another_day_has_its_date() -> None:
    assert words.clock(after(hours=3), NOW) == "15:00:00"
    assert words.clock(after(days=1), NOW) == "2026-03-02 12:00:00"
    west = NOW.astimezone(timezone(timedelta(hours=-2)))
    assert words.clock(datetime(2026, 3, 1, 1, tzinfo=UTC), west) == "2026-02-28 23:00:00", "in the zone of now"


def test_what_would_break_a_line_or_the_terminal() -> None:
    assert words.line("a\r\n\tb\x1b[2J") == "a b\\x1b[2J"
    assert words.line("abcdef", 4) == "abc…"
    assert words.lines("a\tb\n\x1b[31mred\x07") == ["a   b", "\\x1b[31mred\\x07"]


@pytest.mark.parametrize(("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (1_022, "1,022nd")])
def test_ordinals(number: int, text: str) -> None:
    assert words.ordinal(number) == text
