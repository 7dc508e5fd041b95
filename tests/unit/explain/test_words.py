"""Times, durations and texts as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from tests.unit.explain.situations import NOW, after, before

from spoke_jobs.explain import words


def test_an_age_is_a_duration_like_others() -> None:
    for gap in ({"seconds": 98}, {"minutes": 119}, {"days": 3}):
        assert words.ago(before(**gap), NOW) == f"{words.age(before(**gap), NOW)} ago"
    assert words.age(before(seconds=98), NOW) == "1 min 38 s"


def test_clocks_that_differ_give_no_negative_times() -> None:
    assert words.ago(after(seconds=2), NOW) == "0 s ago"
    assert words.age(after(seconds=2), NOW) == "0 s"
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
