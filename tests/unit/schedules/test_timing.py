"""When occurrences are due, compared with the standard library's zones, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoke_jobs.errors import InvalidSchedule
from spoke_jobs.schedules.timing import Cron, Every, Timing, timing_of

MINUTE = timedelta(minutes=1)
CHANGES = {
    "America/New_York": (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    "Asia/Kathmandu": (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)),
    "UTC": (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)),
}
"""Both changes of the clock in a year, where there are any."""


def _field(limit: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A cron field, and the values that it means."""
    number = st.integers(0, limit - 1)
    several = st.sets(number, min_size=1, max_size=4)
    return st.one_of(
        st.just(("*", set(range(limit)))),
        st.sampled_from([2, 3, 7, 15]).map(lambda step: (f"*/{step}", set(range(0, limit, step)))),
        several.map(lambda values: (",".join(map(str, sorted(values))), values)),
    )


def _expected(zone: ZoneInfo, minutes: tuple[str, set[int]], hours: tuple[str, set[int]], begin: datetime,
              end: datetime) -> list[datetime]:  # fmt: skip
    """The occurrences by the documented rules, from the zone alone."""
    if minutes[0].startswith("*") or hours[0].startswith("*"):
        return [when for when in _each_minute(begin, end) if _shows(when.astimezone(zone), minutes[1], hours[1])]
    found = set()
    for day in range(-2, (end - begin).days + 3):
        date = (begin.astimezone(zone) + timedelta(days=day)).date()
        for hour in hours[1]:
            for minute in minutes[1]:
                local = datetime(date.year, date.month, date.day, hour, minute)
                while not _exists(local, zone):
                    local += MINUTE
                found.add(local.replace(tzinfo=zone, fold=0).astimezone(UTC))
    return sorted(when for when in found if begin <= when <= end)


def _each_minute(begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin <= end:
        yield begin
        begin += MINUTE


def _shows(local: datetime, minutes: set[int], hours: set[int]) -> bool:
    return local.minute in minutes and local.hour in hours


def _exists(local: datetime, zone: ZoneInfo) -> bool:
    return local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(CHANGES)),
    change=st.sampled_from([0, 1]),
    minutes=_field(60),
    hours=st.one_of(
        _field(24), st.sets(st.integers(0, 4), min_size=1).map(lambda v: (",".join(map(str, sorted(v))), v))
    ),
    offset=st.integers(-5 * 3600, 5 * 3600),
)
def test_no_occurrence_is_lost_or_doubled_around_a_change_of_the_clock(
    name: str, change: int, minutes: tuple[str, set[int]], hours: tuple[str, set[int]], offset: int
) -> None:
    zone, at = ZoneInfo(name), CHANGES[name][change]
    begin, end = at - timedelta(hours=27), at + timedelta(hours=27)
    expected = _expected(zone, minutes, hours, begin, end)
    cron = Cron(f"{minutes[0]} {hours[0]} * * *", timezone=name)
    assert list(cron.between(begin - timedelta(microseconds=1), end)) == expected
    # The next occurrence is the same from any moment: also from the second pass of a repeated hour.
    moment = at + timedelta(seconds=offset)
    assert cron.after(moment) == next((when for when in _expected(zone, minutes, hours, begin, end + timedelta(days=4))
                                       if when > moment), None)  # fmt: skip


def times(timing: Timing, after: str, count: int, zone: str) -> list[str]:
    found, moment = [], datetime.fromisoformat(after)
    for _ in range(count):
        moment = timing.after(moment)  # type: ignore[assignment]
        found.append(moment.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z"))
    return found


def test_a_time_that_the_clocks_skip_is_due_at_the_end_of_the_gap_and_a_repeated_one_once() -> None:
    skipped = Cron("30 2 * * *", timezone="America/New_York")
    assert times(skipped, "2026-03-07T12:00Z", 2, "America/New_York") == ["08 03:00-0400", "09 02:30-0400"]
    repeated = Cron("30 1 * * *", timezone="America/New_York")
    assert times(repeated, "2026-10-31T12:00Z", 2, "America/New_York") == ["01 01:30-0400", "02 01:30-0500"]
    in_the_second_pass = "2026-11-01T06:15Z"  # 01:15 for the second time
    assert times(repeated, in_the_second_pass, 1, "America/New_York") == ["02 01:30-0500"]
    half = Cron("45 1 * * *", timezone="Australia/Lord_Howe")  # its clocks go back by half an hour, at 02:00
    assert times(half, "2026-04-04T12:00Z", 2, "Australia/Lord_Howe") == ["05 01:45+1100", "06 01:45+1030"]


def test_a_line_for_every_quarter_of_an_hour_goes_on_in_a_repeated_hour() -> None:
    found = times(Cron("*/30 * * * *", timezone="America/New_York"), "2026-11-01T04:45Z", 4, "America/New_York")
    assert found == ["01 01:00-0400", "01 01:30-0400", "01 01:00-0500", "01 01:30-0500"]


@settings(deadline=None, max_examples=100)
@given(step=st.integers(1, 100_000), seconds=st.floats(0, 3e9), start=st.none() | st.integers(0, 2_000_000_000))
def test_an_interval_has_the_same_occurrences_from_any_moment(step: int, seconds: float, start: int | None) -> None:
    begin = datetime.fromtimestamp(start, UTC) if start is not None else None
    every = Every(seconds=step, start=begin)
    moment = datetime.fromtimestamp(seconds, UTC)
    first = every.after(moment)
    assert first is not None
    assert first > moment
    assert (first - (begin or datetime(1970, 1, 1, tzinfo=UTC))) % timedelta(seconds=step) == timedelta(0)
    assert first - max(moment, begin or moment) <= timedelta(seconds=step)
    assert every.after(first) == first + timedelta(seconds=step)


def test_start_and_end_bound_the_occurrences_and_belong_to_them() -> None:
    start, end = datetime(2026, 5, 1, 3, tzinfo=UTC), datetime(2026, 5, 3, 3, tzinfo=UTC)
    cron = Cron("0 3 * * *", start=start, end=end)
    assert list(cron.between(start - timedelta(days=40), end + timedelta(days=9))) == [start, start + timedelta(1), end]
    assert cron.after(end) is None
    assert Every(hours=7, start=start).after(start - timedelta(days=1)) == start


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cron("0 0 3 * * *"), "has 6 fields, where 5 are expected .minute, hour, .*no field for seconds"),
        (lambda: Cron("0 3 * *"), "has 4 fields"),
        (lambda: Cron("0 0 31 2 *"), "'0 0 31 2 [*]' is never due"),
        (lambda: Cron("0 0 30,31 2 *"), "is never due"),
        (lambda: Cron("0 0 31 4,6 *"), "is never due"),
        (lambda: Cron("61 0 * * *"), "can't be read: bad minute"),
        (lambda: Cron("0 0 32 * *"), "can't be read: bad day-of-month"),
        (lambda: Cron("0 0 * * FOO"), "can't be read: bad day-of-week"),
        (lambda: Cron("*/0 * * * *"), "can't be read: bad minute"),
        (lambda: Cron(""), "has 0 fields"),
        (lambda: Cron(5), "a string of five fields"),  # type: ignore[arg-type]
        (lambda: Cron("٣ * * * *"), "a string of five fields"),
        (lambda: Cron("0 3 * * *", timezone="Amerika/New_York"), "Did you mean 'America/New_York'"),
        (lambda: Cron("0 3 * * *", timezone="right/Europe/Paris"), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone="posix/Europe/Paris"), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone="localtime"), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone="America"), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone="../etc/passwd"), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone=""), "a name of the IANA database"),
        (lambda: Cron("0 3 * * *", timezone=None), "a name of the IANA database"),  # type: ignore[arg-type]
        (lambda: Cron("0 0 1 1 *", start=datetime(2026, 1, 2, tzinfo=UTC), end=datetime(2026, 5, 1, tzinfo=UTC)),
         "never due .with start 2026-01-02"),
        (lambda: Cron("0 3 * * *", start=datetime(2026, 1, 2)), "start is .* a datetime with a time zone"),
        (lambda: Cron("0 3 * * *", start=datetime(2026, 5, 2, tzinfo=UTC), end=datetime(2026, 5, 1, tzinfo=UTC)),
         "before start"),
        (lambda: Cron("0 3 * * *", misfire="never"), "misfire is 'never', where one of skip, once, all is expected"),
        (lambda: Cron("0 3 * * *", overlap="queue"), "overlap is 'queue'"),
        (lambda: Cron("0 3 * * *", jitter_seconds=-1), "jitter_seconds is -1"),
        (lambda: Cron("0 3 * * *", misfire_window_seconds=0), "misfire_window_seconds is 0"),
        (lambda: Every(), "an interval is 0 s long"),
        (lambda: Every(minutes=0), "an interval is 0 s long"),
        (lambda: Every(minutes=-5), "minutes is -5"),
        (lambda: Every(seconds=0.5), "seconds is 0.5, where a whole number"),  # type: ignore[arg-type]
        (lambda: Every(days=10**8), "ten years"),
        (lambda: Every(weeks=10**9), "ten years"),
        (lambda: timing_of("never"), "can't be read"),  # type: ignore[arg-type]
        (lambda: timing_of({"weeks": 10**9}), "ten years"),
    ],
)  # fmt: skip
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidSchedule, match=message):
        make()


@settings(deadline=None, max_examples=300)
@given(line=st.text(alphabet="0123456789*/,-#LWMONJAFEB ", max_size=30))
def test_any_line_is_either_refused_or_due(line: str) -> None:
    try:
        cron = Cron(line)
    except InvalidSchedule:
        return
    assert cron.after(datetime(1970, 1, 1, tzinfo=UTC)) is not None
    assert cron.describe()


@pytest.mark.parametrize(
    "timing",
    [
        Cron("0  3 * * *", timezone="Asia/Kathmandu", misfire="all", overlap="skip", jitter_seconds=5),
        Every(hours=1, minutes=30, start=datetime(2026, 5, 1, tzinfo=UTC), misfire_grace_seconds=5),
    ],
)
def test_a_timing_is_read_as_it_was_stored(timing: Cron | Every) -> None:
    assert timing_of(timing.to_json()) == timing


def test_words() -> None:
    assert Cron("0 3 * * *", timezone="Asia/Kathmandu").describe() == "At 03:00 every day (Asia/Kathmandu)"
    assert Every(hours=1, minutes=30).describe() == "Every 1 hour 30 minutes"


def test_a_timing_whose_end_is_over_is_never_due_again() -> None:
    end = datetime(2026, 5, 4, 6, tzinfo=UTC)
    for timing in (Cron("0 6 * * *", end=end), Every(hours=6, end=end)):
        timing.check_due_after(end - timedelta(microseconds=1))
        with pytest.raises(InvalidSchedule, match=r"it is never due again: .* \(with end 2026-05-04T06:00:00"):
            timing.check_due_after(end)
