"""When a schedule's occurrences are due: a cron line in a time zone, or an interval. Pure: the caller gives the time.

cronsim parses and evaluates cron lines, with the rules of Debian's cron for changes of the clock:

- A line whose minute and hour both name times (``30 2 * * *``) follows the calendar: one occurrence for each time. A
  time that the clocks skip is due at the end of the gap; a time that the clocks repeat is due the first time.
- A line whose minute or hour begins with ``*`` follows the wall clock: it is due whenever a clock on the wall matches.
  Times that the clocks skip are not due, and times that they repeat are due twice.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from spoke_jobs.contract.retry import DURATION, WAIT, is_duration, is_wait
from spoke_jobs.errors import InvalidSchedule
from spoke_jobs.shared.validation_text import wrong

GRACE_SECONDS = 60.0
WINDOW_SECONDS = 86_400.0
LINE_LIMIT = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LONGEST = timedelta(days=3660)
_UNITS = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_LONGEST_REPEAT = timedelta(hours=3)
"""Clocks go back by two hours at most (Troll)."""
_YEARS = (1970, 9900)
_FIELDS = "minute, hour, day of the month, month, day of the week"


class Misfire(StrEnum):
    """What happens to occurrences that were not dispatched in time, because no process was there to do it."""

    SKIP = "skip"
    """None of them is dispatched."""
    ONCE = "once"
    """Only the latest due one is dispatched."""
    ALL = "all"
    """All within the window are dispatched, the oldest first."""


class Overlap(StrEnum):
    """What happens to an occurrence if an earlier one still waits or runs."""

    ALLOW = "allow"
    """It is dispatched."""
    SKIP = "skip"
    """It is skipped."""
    REPLACE = "replace"
    """The earlier ones are cancelled, and it is dispatched."""


_Kind = TypeVar("_Kind", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(ABC):
    """The rules that cron lines and intervals share.

    :raises InvalidSchedule: naming the rule, its value and what is expected.
    """

    misfire: str = Misfire.ONCE
    """`skip`, `once` or `all`: see :class:`Misfire`."""
    misfire_grace_seconds: float = GRACE_SECONDS
    """How late an occurrence may be dispatched before it counts as missed."""
    misfire_window_seconds: float = WINDOW_SECONDS
    """With ``misfire="all"``: occurrences that were due earlier than this are skipped."""
    overlap: str = Overlap.ALLOW
    """`allow`, `skip` or `replace`: see :class:`Overlap`."""
    jitter_seconds: float = 0.0
    """Each job starts up to this much later than its due time, by an amount that the name and the due time decide."""
    start: datetime | None = None
    """No occurrence is due before this time. Intervals are counted from it."""
    end: datetime | None = None
    """No occurrence is due after this time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "misfire", _member(Misfire, "misfire", self.misfire))
        object.__setattr__(self, "overlap", _member(Overlap, "overlap", self.overlap))
        for name in ("misfire_grace_seconds", "jitter_seconds"):
            if not is_wait(value := getattr(self, name)):
                raise InvalidSchedule(f"{name}{wrong(value, WAIT)}")
        if not is_duration(self.misfire_window_seconds):
            raise InvalidSchedule(f"misfire_window_seconds{wrong(self.misfire_window_seconds, DURATION)}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _moment(name, value))
        if self.start is not None and self.end is not None and self.end < self.start:
            raise InvalidSchedule(f"end is {self.end.isoformat()}, before start, {self.start.isoformat()}")

    @property
    def zone(self) -> ZoneInfo:
        """The schedule's time zone."""
        return ZoneInfo("UTC")

    @abstractmethod
    def describe(self) -> str:
        """Say in words when it is due."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first occurrence later than ``moment``, in UTC; None if there is none."""
        if self.start is not None and moment < self.start:
            moment = self.start - timedelta(microseconds=1)
        try:
            found = self._after(moment)
        except OverflowError:  # past the calendar's end
            return None
        return None if found is None or (self.end is not None and found > self.end) else found

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the occurrences later than ``after`` and not later than ``until``, in order."""
        found = self.after(after)
        while found is not None and found <= until:
            yield found
            found = self.after(found)

    def check_due_after(self, moment: datetime) -> None:
        """Refuse a timing that has no occurrence later than ``moment``, mostly because its end is over.

        :raises InvalidSchedule: if it has none.
        """
        if self.after(moment) is None:
            raise InvalidSchedule(f"it is never due again: {self.describe()}{_within(self)}")

    @abstractmethod
    def _after(self, moment: datetime) -> datetime | None:
        """Return the first due time later than ``moment``, without a look at ``start`` and ``end``."""

    def to_json(self) -> dict[str, Any]:
        """Return the timing as the schedule's row keeps it. Rules with their default are left out."""
        return {
            item.name: value.isoformat() if isinstance(value, datetime) else value
            for item in fields(self)
            if (value := getattr(self, item.name)) != item.default
        }


@dataclass(frozen=True, slots=True)
class Cron(Timing):
    """A cron line of five fields: ``Cron("0 3 * * *", timezone="America/New_York")``.

    :raises InvalidSchedule: if the line can't be read or is never due, or there is no such zone.
    """

    expression: str
    timezone: str = "UTC"
    """A name of the IANA database."""

    def __post_init__(self) -> None:
        Timing.__post_init__(self)
        object.__setattr__(self, "expression", _checked(self.expression))
        _zone(self.timezone)
        if self.after(_EPOCH) is None:
            raise InvalidSchedule(f"the cron line {self.expression!r} is never due{_within(self)}")

    @property
    def zone(self) -> ZoneInfo:
        """The schedule's time zone."""
        return _zone(self.timezone)

    def describe(self) -> str:
        """Say in words when it is due: ``At 03:00 every day (America/New_York)``."""
        from cronsim import CronSim

        return f"{CronSim(self.expression, _EPOCH).explain()} ({self.timezone})"

    def _after(self, moment: datetime) -> datetime | None:
        from cronsim import CronSim  # imported here, so that a process without schedules does not load it

        local = moment.astimezone(self.zone)
        minute, hour = self.expression.split()[:2]
        if minute.startswith("*") or hour.startswith("*"):
            return self._after_on_the_wall(moment, local)
        for found in CronSim(self.expression, local):
            utc = found.astimezone(UTC)
            # In a repeated hour, cronsim may return times of its first pass to a start in the second.
            if utc > moment:
                return utc
        return None

    def _after_on_the_wall(self, moment: datetime, local: datetime) -> datetime | None:
        """Find the next instant whose wall-clock time matches.

        With a time zone, cronsim itself goes on in steps of an hour here. It loses times after a change of half an
        hour (Lord Howe). So it gets times without a zone.
        """
        from cronsim import CronSim

        soon = (moment + _LONGEST_REPEAT).astimezone(self.zone)
        repeats = soon.replace(tzinfo=None) - local.replace(tzinfo=None) < _LONGEST_REPEAT
        begin = local.replace(tzinfo=None, fold=0) - (_LONGEST_REPEAT if repeats else timedelta(0))
        best: datetime | None = None
        for found in CronSim(self.expression, begin):
            later = [when for when in instants(found, self.zone) if when > moment]
            best = min([*later, *([best] if best else [])], default=None)
            # If the clocks go back soon, an earlier time on the wall may be shown again before this one.
            if best is not None and (not repeats or found > begin + 2 * _LONGEST_REPEAT):
                break
        return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Every(Timing):
    """An interval of elapsed time: ``Every(minutes=5)``. It is counted from ``start``, or from 1970-01-01 in UTC.

    So ``Every(minutes=5)`` is due at 12:00, 12:05 and so on, whichever process counts, and whenever it was started.

    :raises InvalidSchedule: if it is not a whole number of seconds from 1 to ten years.
    """

    weeks: int = 0
    days: int = 0
    hours: int = 0
    minutes: int = 0
    seconds: int = 0

    def __post_init__(self) -> None:
        Timing.__post_init__(self)
        for name in _UNITS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
                raise InvalidSchedule(f"{name}{wrong(value, 'a whole number from 0')}")
        total = sum(getattr(self, name) * size for name, size in _UNITS.items())
        if not _SECOND.total_seconds() <= total <= _LONGEST.total_seconds():
            raise InvalidSchedule(
                f"an interval is {total} s long, where 1 s to ten years are possible: Every(minutes=5) for example"
            )
        if self.after(_EPOCH) is None:
            raise InvalidSchedule(f"an interval of {total} s is never due{_within(self)}")

    @property
    def step(self) -> timedelta:
        """The interval."""
        return timedelta(seconds=sum(getattr(self, name) * size for name, size in _UNITS.items()))

    def describe(self) -> str:
        """Say in words when it is due: ``Every 1 hour 30 minutes``."""
        parts = [f"{value} {name[:-1] if value == 1 else name}" for name in _UNITS if (value := getattr(self, name))]
        return f"Every {' '.join(parts)}"

    def _after(self, moment: datetime) -> datetime:
        anchor = self.start or _EPOCH
        return anchor + max((moment - anchor) // self.step + 1, 0) * self.step


def in_units(seconds: int) -> dict[str, int]:
    """Return an interval in units of :class:`Every`, the largest first: 5400 s are an hour and 30 minutes."""
    parts = {}
    for name, size in _UNITS.items():
        parts[name], seconds = divmod(seconds, size)
    return {name: value for name, value in parts.items() if value}


def timing_of(value: Mapping[str, Any]) -> Cron | Every:
    """Read a timing from JSON: see :meth:`Timing.to_json`.

    :raises InvalidSchedule: if it can't be read, for example because another release wrote it.
    """
    kind = Cron if "expression" in value else Every
    try:
        given = dict(value)
        for name in ("start", "end"):
            if name in given:
                given[name] = datetime.fromisoformat(given[name])
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise InvalidSchedule(f"the stored times of the schedule can't be read: {error}") from None


def instants(local: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the instants at which clocks show a time: none, one or two."""
    both = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return [when for when in both if when.astimezone(zone).replace(tzinfo=None, fold=0) == local]


def _checked(line: object) -> str:
    """Return a cron line, with single spaces between its fields."""
    from cronsim import CronSim, CronSimError

    if not isinstance(line, str) or len(line) > LINE_LIMIT or not line.isascii() or not line.isprintable():
        raise InvalidSchedule(f"a cron line{wrong(line, f'a string of five fields: {_FIELDS}')}")
    parts = line.split()
    if len(parts) != 5:
        seconds = ": there is no field for seconds, use Every(seconds=...)" if len(parts) == 6 else ""
        raise InvalidSchedule(
            f"the cron line {line!r} has {len(parts)} fields, where 5 are expected ({_FIELDS}){seconds}"
        )
    try:
        CronSim(line, _EPOCH)
    except CronSimError as error:
        never = "" if _is_readable(parts) else f": {str(error)[:1].lower()}{str(error)[1:]}"
        problem = f"can't be read{never}" if never else "is never due"
        raise InvalidSchedule(f"the cron line {line!r} {problem}") from None
    except (AssertionError, TypeError, ValueError):  # forms that its parser does not expect
        raise InvalidSchedule(f"the cron line {line!r} can't be read") from None
    return " ".join(parts)


def _is_readable(parts: list[str]) -> bool:
    """Return whether each field alone can be read. Then a refused line combines them to a date that does not exist."""
    from cronsim import CronSim, CronSimError

    minute, hour, day, month, weekday = parts
    try:
        for line in (f"{minute} {hour} {day} * {weekday}", f"* * * {month} *"):
            CronSim(line, _EPOCH)
    except (CronSimError, AssertionError, TypeError, ValueError):
        return False
    return True


_NO_NAME = re.compile(r"(posix|right)/|(localtime|posixrules|Factory)$")
"""Files beside the zones: the zone of this machine, the zones with leap seconds, which give other times, and copies."""


def _zone(name: object) -> ZoneInfo:
    if isinstance(name, str) and not _NO_NAME.match(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # OSError: a folder of the database
            pass
    expected = 'a name of the IANA database, for example "America/New_York"'
    close = difflib.get_close_matches(str(name), available_timezones(), n=3)
    hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InvalidSchedule(f"timezone{wrong(name, expected)}{hint}")


def _member(kind: type[_Kind], name: str, value: object) -> _Kind:
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidSchedule(f"{name}{wrong(value, 'one of ' + ', '.join(kind))}") from None


def _moment(name: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidSchedule(f"{name}{wrong(value, 'a datetime with a time zone')}")
    if not _YEARS[0] <= value.year <= _YEARS[1]:
        raise InvalidSchedule(f"{name} is {value.isoformat()}, not between the years {_YEARS[0]} and {_YEARS[1]}")
    return value.astimezone(UTC)


def _within(timing: Timing) -> str:
    limits = [f"{name} {value.isoformat()}" for name in ("start", "end") if (value := getattr(timing, name))]
    return f" (with {' and '.join(limits)})" if limits else ""
