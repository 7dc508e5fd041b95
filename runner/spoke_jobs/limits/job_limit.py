"""A limit as a value, and what each change makes of it. The ledgers store it, and record each change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Self

from spoke_jobs.contract.limit_scopes import EACH_KINDS, EXPECTED, Scope, ScopeKind
from spoke_jobs.contract.start_rate import RATE_FORM, StartRate, is_whole
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.shared.clean_text import is_storable, short_repr

MOST_RUNNING = 1_000_000
TEXT_LIMIT = 200
_SHORTEST_START, _OF_INTERVAL = 0.15, 0.75
"""How many seconds a worker has at least to start an attempt, and which part of the time between two tokens."""


class Rate(StartRate):
    """How many attempts may start: a token bucket.

    :raises InvalidLimit: if a field can't be honored.
    """

    __slots__ = ()
    error = InvalidLimit

    @property
    def start_seconds(self) -> float:
        """How long after its token a worker may start an attempt. A later start would come too close to the next ones.

        Less than the time between two tokens, as long as a worker can keep that. Then no window of whole intervals has
        more starts than the burst and its tokens. The rest is for what the job does before its call.
        """
        return max(_SHORTEST_START, self.interval / 1_000_000 * _OF_INTERVAL)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a limit allows; None: without bound. Declared in code, or set at run time.

    :raises InvalidLimit: if a field can't be honored.
    """

    max_running: int | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        if self.max_running is not None and not is_whole(self.max_running, 0, MOST_RUNNING):
            given = short_repr(self.max_running)
            raise InvalidLimit(f"max_running is {given}: give a whole number from 0 to {MOST_RUNNING:,}")

    def __str__(self) -> str:
        parts = [
            *([f"max_running {self.max_running}"] if self.max_running is not None else []),
            *([f"rate {self.rate}"] if self.rate is not None else []),
        ]
        return ", ".join(parts) or "no bounds"

    def to_json(self) -> dict[str, Any]:
        """Return the bounds as the row keeps them."""
        rate = self.rate
        return {
            "maxRunning": self.max_running,
            "rate": None if rate is None else [rate.count, rate.seconds, rate.burst],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` made."""
        rate = value.get("rate")
        return cls(value.get("maxRunning"), None if rate is None else Rate(*rate))


NO_BOUNDS = Bounds()


class Keep(Enum):
    """Stands for a bound that a change leaves as it is."""

    KEEP = "keep"


KEEP = Keep.KEEP


def changed_bounds(
    bounds: Bounds,
    max_running: int | Keep | None = KEEP,
    rate: Rate | str | Keep | None = KEEP,
    burst: int | Keep = KEEP,
) -> Bounds:
    """Return the bounds with some of them changed. None removes a bound.

    :param rate: as text, it has the burst that is given, that of the rate before, or 1.
    :raises InvalidLimit: if one can't be honored.
    """
    most = bounds.max_running if isinstance(max_running, Keep) else max_running
    kept: Rate | None
    if isinstance(rate, Keep):
        kept = bounds.rate
    elif isinstance(rate, str):
        before = 1 if bounds.rate is None else bounds.rate.burst
        return Bounds(most, Rate.parse(rate, before if isinstance(burst, Keep) else burst))
    elif rate is None or isinstance(rate, Rate):
        kept = rate
    else:
        raise InvalidLimit(f"rate is {short_repr(rate)}: give {RATE_FORM}")
    if not isinstance(burst, Keep):
        if kept is None:
            raise InvalidLimit("burst belongs to a rate: give a rate, too")
        kept = replace(kept, burst=burst)
    return Bounds(most, kept)


def parse_max_running(text: str) -> int | None:
    """Read the most attempts at a time; None for ``none``.

    :raises InvalidLimit: naming what is expected.
    """
    if text == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidLimit(f"{text!r} is neither a whole number from 0 to {MOST_RUNNING:,} nor 'none'")
    return int(text)


class Source(StrEnum):
    """Where a limit's bounds come from."""

    DEFAULT = "default"
    """The application's code."""
    RUNTIME = "runtime"
    """Somebody set them. A deploy does not change them."""


@dataclass(frozen=True, slots=True)
class LimitPause:
    """Why no attempt of a scope starts."""

    reason: str
    by: str
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What an application's code declares."""

    bounds: Bounds
    app: str
    """The application's name (SPOKE_APP)."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the row keeps it."""
        return self.bounds.to_json() | {"app": self.app}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` made."""
        return cls(Bounds.from_json(value), value["app"])


@dataclass(frozen=True, slots=True)
class JobLimit:
    """A row of ``job_limit``."""

    scope: Scope
    bounds: Bounds = NO_BOUNDS
    pause: LimitPause | None = None
    source: Source = Source.RUNTIME
    default: Bounds | None = None
    """What the application's code declares; None for nothing."""
    declared_by: str = ""
    """The application that declares it (SPOKE_APP)."""
    replaced: Declared | None = None
    """What the code declares, while a file that somebody applied replaces it."""
    full_at: datetime | None = None
    """When the rate's bucket is full if no attempt starts; None: it is full. Of several buckets, the last one."""
    id: int = 0

    def paused_at(self, now: datetime) -> LimitPause | None:
        """Return the pause, unless it has ended."""
        pause = self.pause
        return pause if pause is not None and (pause.until is None or pause.until > now) else None

    @property
    def has_bounds(self) -> bool:
        """Whether the order of claims matters: its row is locked by each claim that it applies to."""
        return bool(self.bounds.max_running) or self.bounds.rate is not None

    @property
    def has_buckets(self) -> bool:
        """Whether each queue, type or organization has a bucket of its own."""
        return self.bounds.rate is not None and self.scope.kind in EACH_KINDS

    @property
    def shut_until_changed(self) -> bool:
        """Whether nothing of the scope starts, however much time passes."""
        return self.bounds.max_running == 0 or (self.pause is not None and self.pause.until is None)

    @property
    def needed(self) -> bool:
        """Whether the row says anything."""
        return self.pause is not None or self.default is not None or self.bounds != NO_BOUNDS


def still_paused(pause: LimitPause | None) -> str:
    """Say that a scope stays paused after a change of its bounds; empty if it is not paused."""
    return "" if pause is None else f"; it stays paused: {pause.reason}"


def empty(scope: Scope) -> JobLimit:
    """Return a limit that says nothing."""
    return JobLimit(scope, source=Source.DEFAULT)


def parse_scope(text: object) -> Scope:
    """Read a scope.

    :raises InvalidLimit: naming the forms of a scope.
    """
    scope = Scope.parse(text) if isinstance(text, str) else None
    if scope is None:
        raise InvalidLimit(f"{short_repr(text)} is not a scope: give {EXPECTED}")
    return scope


def unknown_type(scope: Scope, names: Iterable[str]) -> str:
    """Return what to say about a scope that names a type which is none of these; empty if there is nothing to say."""
    if scope.kind is not ScopeKind.TYPE:
        return ""
    known = set(names)
    if scope.name in known or any(_covers(scope.name, name) or _covers(name, scope.name) for name in known):
        return ""
    close = difflib.get_close_matches(scope.name, known, n=3)
    guess = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no declared type and no stored job matches {scope.name!r}{guess}"


def undeclared_types(declared: Iterable[Scope], names: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each limit that an application declares on a type that it does not declare."""
    known = tuple(names)
    for scope in declared:
        if problem := unknown_type(scope, known):
            yield f"limit({str(scope)!r}): {problem}"


def _covers(pattern: str, name: str) -> bool:
    return pattern.endswith(".*") and name.startswith(pattern.removesuffix("*"))


def check_text(name: str, text: object) -> str:
    """Return a text that people give.

    :raises InvalidLimit: if it can't be stored, or is too long.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > TEXT_LIMIT or not is_storable(text):
        raise InvalidLimit(f"{name} is {short_repr(text)}: give a text of 1 to {TEXT_LIMIT} characters")
    return text.strip()


def with_bounds(limit: JobLimit, bounds: Bounds) -> JobLimit:
    """The limit after somebody set its bounds."""
    return replace(limit, bounds=bounds, source=Source.RUNTIME, full_at=_bucket(limit, bounds))


def after_reset(limit: JobLimit) -> JobLimit:
    """The limit with what the application's code declares. A pause stays."""
    bounds = limit.default or NO_BOUNDS
    return replace(limit, bounds=bounds, source=Source.DEFAULT, full_at=_bucket(limit, bounds))


def with_default(limit: JobLimit, default: Bounds | None, app: str) -> JobLimit:
    """The limit after an application has declared its default, or does so no longer."""
    changed = replace(limit, default=default, declared_by=app if default is not None else "")
    return after_reset(changed) if limit.source is Source.DEFAULT else changed


def _bucket(limit: JobLimit, bounds: Bounds) -> datetime | None:
    """Keep the bucket when bounds change: a change must not fill it. The ledgers do the same with several buckets."""
    return limit.full_at if bounds.rate is not None else None
