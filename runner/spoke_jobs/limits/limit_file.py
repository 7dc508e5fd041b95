"""The file of `spoke-jobs limits apply`: read it, and decide what it changes. Pure.

What a file says is a default, like a limit that the code declares, and wins over that. What people set at run time
stays until they reset it.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal

from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.limits.job_limit import (
    Bounds,
    Declared,
    JobLimit,
    LimitPause,
    Rate,
    Source,
    check_text,
    empty,
    parse_scope,
    still_paused,
    with_default,
)
from spoke_jobs.shared.clean_text import short_repr

APPLIED = "spoke-jobs limits apply"
"""Stands for the application in what a file declares."""
MOST_ENTRIES = 10_000
_FIELDS = ("scope", "max_running", "rate", "burst", "paused")
_PAUSE_FIELDS = ("reason", "until")


@dataclass(frozen=True, slots=True)
class PauseEntry:
    """A pause of the file."""

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LimitEntry:
    """An entry of the file."""

    scope: Scope
    bounds: Bounds | None = None
    """None: the entry is about a pause only."""
    pause: PauseEntry | Literal[False] | None = None
    """False ends a pause. None leaves it as it is."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A limit that the file changes."""

    before: JobLimit
    after: JobLimit
    now: datetime
    """When the change is made."""

    def __str__(self) -> str:
        before, after = self.before, self.after
        said = []
        if after.default != before.default:
            of_code = ", as the code declares" if after.declared_by not in ("", APPLIED) else ""
            said.append("removed" if after.default is None else f"{after.default}{of_code}")
            if after.source is Source.RUNTIME and after.bounds != after.default:
                said[-1] += f" (in effect: {after.bounds}, set at run time)"
            if after.default is None and after.pause == before.pause:
                said[-1] += still_paused(after.paused_at(self.now))
        if after.pause != before.pause:
            said.append("resumed" if after.pause is None else f"paused: {after.pause.reason}")
        return "; ".join(said)


def read_entries(value: object) -> tuple[LimitEntry, ...]:
    """Read the parsed file.

    :raises InvalidLimit: naming the entry and what is wrong with it.
    """
    if not isinstance(value, list):
        raise InvalidLimit("give a list of limits, each with a scope: [{scope: all, max_running: 10}]")
    if len(value) > MOST_ENTRIES:
        raise InvalidLimit(f"there are {len(value):,} limits: give at most {MOST_ENTRIES:,}")
    found: dict[Scope, int] = {}
    return tuple(_numbered(number, item, found) for number, item in enumerate(value, 1))


def _numbered(number: int, item: object, found: dict[Scope, int]) -> LimitEntry:
    try:
        entry = _entry(item, found)
    except InvalidLimit as error:
        scope = item.get("scope") if isinstance(item, Mapping) else None
        named = f" ({scope:.100})" if isinstance(scope, str) else ""
        raise InvalidLimit(f"entry {number}{named}: {error}") from None
    found[entry.scope] = number
    return entry


def _entry(item: object, found: Mapping[Scope, int]) -> LimitEntry:
    fields = _mapping(item, _FIELDS, "a limit is a mapping, for example {scope: all, max_running: 10}")
    if "scope" not in fields:
        raise InvalidLimit("it has no scope")
    scope = parse_scope(fields["scope"])
    if scope in found:
        raise InvalidLimit(f"entry {found[scope]} has the same scope")
    bounds = _bounds(fields)
    pause = _pause(fields["paused"]) if fields.get("paused") is not None else None
    if bounds is None and pause is None:
        raise InvalidLimit("it limits nothing: give max_running, rate or paused")
    return LimitEntry(scope, bounds, pause)


def _bounds(fields: Mapping[str, Any]) -> Bounds | None:
    most, rate, burst = fields.get("max_running"), fields.get("rate"), fields.get("burst")
    if rate is None:
        if burst is not None:
            raise InvalidLimit("burst belongs to a rate: give a rate, too")
        return None if most is None else Bounds(most)
    if not isinstance(rate, str):
        raise InvalidLimit(f"rate is {short_repr(rate)}: give a text like '5/s'")
    return Bounds(most, Rate.parse(rate, 1 if burst is None else burst))


def _pause(value: object) -> PauseEntry | Literal[False]:
    if value is False:
        return False
    if isinstance(value, str):
        return PauseEntry(check_text("paused", value))
    fields = _mapping(value, _PAUSE_FIELDS, "paused is a reason, or {reason: ..., until: ...}, or false")
    until = fields.get("until")
    if isinstance(until, str):
        try:
            until = datetime.fromisoformat(until)
        except ValueError:
            raise InvalidLimit(f"until is {short_repr(until)}: give a time like 2026-03-01T08:00Z") from None
    if until is not None and (not isinstance(until, datetime) or until.utcoffset() is None):
        given = until if isinstance(until, date) else short_repr(until)
        raise InvalidLimit(f"until is {given}: give a time with a time zone, like 2026-03-01T08:00Z")
    try:
        end = None if until is None else until.astimezone(UTC)
    except OverflowError:
        raise InvalidLimit(f"until is {until}: give an earlier time") from None
    return PauseEntry(check_text("reason", fields.get("reason")), end)


def _mapping(value: object, known: Sequence[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidLimit(what)
    for name in value:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            guess = f". Did you mean {close[0]}?" if close else f": the fields are {', '.join(known)}"
            raise InvalidLimit(f"{short_repr(name)} is not a field{guess}")
    return value


def applied(
    present: Iterable[JobLimit], entries: Iterable[LimitEntry], now: datetime, *, by: str = "", prune: bool = False
) -> list[Applied]:
    """Return the limits that the entries change.

    :param by: who applies them; shown with a pause.
    :param prune: also remove what an earlier file declared and these entries do not.
    """
    found = {limit.scope: limit for limit in present}
    listed = {entry.scope: entry for entry in entries}
    changes = [Applied(old := found.get(scope, empty(scope)), _after(old, entry, now, by), now)
               for scope, entry in listed.items()]  # fmt: skip
    if prune:
        bounded = {scope for scope, entry in listed.items() if entry.bounds is not None}
        gone = [limit for scope, limit in found.items() if limit.declared_by == APPLIED and scope not in bounded]
        known = {change.before.scope: change for change in changes}
        for limit in gone:
            after = known[limit.scope].after if limit.scope in known else limit
            known[limit.scope] = Applied(limit, _without_file(after), now)
        changes = list(known.values())
    return [change for change in changes if change.after != change.before]


def left_in_effect(
    present: Iterable[JobLimit],
    changes: Iterable[Applied],
    entries: Iterable[LimitEntry],
    now: datetime,
    *,
    prune: bool = False,
) -> Iterator[str]:
    """Say what is in effect besides the entries once the changes are made, unless a change says so itself.

    This is about the bounds of listed scopes that somebody has set, and with ``prune`` about the pauses of scopes that
    are not listed. Nothing records whether an earlier file set such a pause.
    """
    made = {change.after.scope: change for change in changes}
    listed = {entry.scope: entry for entry in entries}
    limits = {limit.scope: limit for limit in present} | {scope: change.after for scope, change in made.items()}
    for scope, limit in limits.items():
        entry, change, pause = listed.get(scope), made.get(scope), limit.paused_at(now)
        name = shlex.quote(str(scope))
        told = change is not None and change.after.default != change.before.default
        if entry is not None and entry.bounds is not None and limit.bounds != entry.bounds and not told:
            yield (
                f"{scope}: {limit.bounds}, which somebody set, stays in effect, not {entry.bounds}: "
                f"`spoke-jobs limits reset {name}` returns to the file's"
            )
        if prune and entry is None and pause is not None and not (told and limit.default is None):
            yield f"{scope}: not in the file{still_paused(pause)}. `spoke-jobs resume {name}` ends the pause"


def _after(limit: JobLimit, entry: LimitEntry, now: datetime, by: str) -> JobLimit:
    if entry.bounds is not None:
        limit = _with_file(limit, entry.bounds)
    if entry.pause is False:
        return replace(limit, pause=None)
    if isinstance(entry.pause, PauseEntry):
        old, new = limit.pause, entry.pause
        same = old is not None and (old.reason, old.until) == (new.reason, new.until)
        over = new.until is not None and new.until <= now
        return limit if same or over else replace(limit, pause=LimitPause(new.reason, by, now, new.until))
    return limit


def _with_file(limit: JobLimit, bounds: Bounds) -> JobLimit:
    """Replace the default by the file's, and keep what the code declares."""
    replaced = limit.replaced
    if limit.declared_by != APPLIED:
        replaced = None if limit.default is None else Declared(limit.default, limit.declared_by)
    return replace(with_default(limit, bounds, APPLIED), replaced=replaced)


def _without_file(limit: JobLimit) -> JobLimit:
    """Return to what the code declares, if it declares anything."""
    code, limit = limit.replaced, replace(limit, replaced=None)
    return with_default(limit, None, "") if code is None else with_default(limit, code.bounds, code.app)


def with_code_default(limit: JobLimit, bounds: Bounds | None, app: str) -> JobLimit:
    """The limit after an application's code has declared its default, or does so no longer. A file's default stays."""
    if limit.declared_by != APPLIED:
        return with_default(limit, bounds, app)
    return replace(limit, replaced=None if bounds is None else Declared(bounds, app))
