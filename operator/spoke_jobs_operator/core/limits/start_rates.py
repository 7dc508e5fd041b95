"""Decide when the next attempt may start under the rates of SpokeLimits.

An attempt takes a token of each rate that applies to it when it is admitted. Each SpokeLimit has a bucket of its own;
with `each-queue` and the like it has one for each queue. A bucket is one time, as in the ledger
(:mod:`spoke_jobs.contract.start_rate`).

A new leader does not see each start of its predecessor: finished SpokeJobs may be gone. The status of a SpokeLimit
holds the bucket as of the last write. The new leader assumes that all its tokens have been used since. So no rate is
exceeded, and a token that is due once a day comes even if leaders change every hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from spoke_jobs.contract.limit_model import rate_wait
from spoke_jobs.contract.limit_scopes import NAMED, ScopeKind
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView

from .limits import RateBound

MOST_BUCKETS = 10_000
"""The most buckets of a SpokeLimit. Beyond them, the other queues, organizations or types share one."""
FORGET_EVERY = timedelta(minutes=1)
"""How often full buckets are forgotten."""
CLOCKS_DIFFER = timedelta(seconds=10)
"""How far the API server's clock may be ahead of this machine's. A rate that was set less than this time after this
process began may have been set before, so that an earlier leader has started attempts under it."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


Rates = Iterable[tuple[str, tuple[RateBound, ...]]]
"""The rates that apply to a SpokeJob, by scope, with the name that the scope counts the SpokeJob as: a queue, for
example."""


@dataclass(slots=True)
class _Buckets:
    """The buckets of a SpokeLimit, each as the time when it will be full."""

    rest: datetime
    """The bucket of all names that have none of their own."""
    full_at: dict[str, datetime] = field(default_factory=dict)

    def of(self, name: str) -> datetime:
        return self.full_at.get(name, self.rest)

    @property
    def last(self) -> datetime:
        """When all are full."""
        return max(self.rest, *self.full_at.values()) if self.full_at else self.rest

    def put(self, name: str, full_at: datetime, now: datetime) -> None:
        if name not in self.full_at and len(self.full_at) >= MOST_BUCKETS:
            self.forget_full(now)
        if name in self.full_at or len(self.full_at) < MOST_BUCKETS:
            self.full_at[name] = full_at
        else:
            self.rest = full_at

    def forget_full(self, now: datetime) -> None:
        """Forget the full buckets. While the shared bucket is not full, a name without a bucket would not be full."""
        if self.rest <= now:
            self.full_at = {name: at for name, at in self.full_at.items() if at > now}


class StartRates:
    """The buckets of all SpokeLimits with rates, and the time at which they are checked.

    :param now: since when this process decides; the time to use until it is set.
    """

    def __init__(self, now: datetime = _LONG_AGO) -> None:
        self._now = now
        self._since = now
        # What a scope makes a name wait for now, by the first of its SpokeLimits and the name. An admission asks about
        # thousands of SpokeJobs at one time.
        self._waits: dict[tuple[Key, str], tuple[timedelta, RateBound | None]] = {}
        self._buckets: dict[Key, _Buckets] = {}
        self._limits: frozenset[Key] = frozenset()
        self._forget_at = now + FORGET_EVERY
        self.awaited: datetime | None = None
        """When the first token comes that a SpokeJob waits for, of those checked since this was set to None."""

    @property
    def now(self) -> datetime:
        """The time at which the buckets are checked."""
        return self._now

    @now.setter
    def now(self, value: datetime) -> None:
        self._now = value
        self._waits.clear()

    def begin(self, items: Iterable[SpokeLimitView]) -> None:
        """Set the SpokeLimits. Begin the buckets of those that are new."""
        self._waits.clear()
        rated = {item.key: item for item in items if item.spec is not None and item.spec.rate is not None}
        self._limits = frozenset(rated)
        for key, item in rated.items():
            if key not in self._buckets:
                self._buckets[key] = _Buckets(self._first(item))

    def _first(self, item: SpokeLimitView) -> datetime:
        """Return the first bucket: a full one if somebody has surely set the rate since this process decides."""
        rate = item.spec.start_rate if item.spec is not None else None
        set_at = item.rate_set.at
        if rate is None or (set_at is not None and set_at - CLOCKS_DIFFER >= self._since):
            return _LONG_AGO
        return rate.used_up(item.status.full_at if _has_one_bucket(item) else None, self._since)

    def why(self, rates: Rates) -> Wait | None:
        """Return the wait for the rate whose token comes last; None if each of them has one."""
        longest, of = timedelta(), None
        for name, bounds in rates:
            wait, bound = self._wait(name, bounds)
            if wait > longest:
                longest, of = wait, bound
        if of is None:
            return None
        retry_at = self.now + longest
        self.awaited = retry_at if self.awaited is None else min(self.awaited, retry_at)
        return rate_wait(of.rate, of.source, retry_at)

    def _wait(self, name: str, bounds: tuple[RateBound, ...]) -> tuple[timedelta, RateBound | None]:
        """Return the longest wait for a token of a scope, and its rate."""
        key = (bounds[0].limit, name)
        found = self._waits.get(key)
        if found is None:
            found = timedelta(), None
            for bound in bounds:
                wait = bound.rate.wait(self._bucket(name, bound), self.now)
                if wait > found[0]:
                    found = wait, bound
            self._waits[key] = found
        return found

    def take(self, rates: Rates) -> None:
        """Take a token of each rate for an attempt that starts."""
        for name, bounds in rates:
            for bound in bounds:
                full_at = bound.rate.started(self._bucket(name, bound), self.now)
                self._buckets.setdefault(bound.limit, _Buckets(_LONG_AGO)).put(name, full_at, self.now)
        self._waits.clear()

    def _bucket(self, name: str, bound: RateBound) -> datetime | None:
        buckets = self._buckets.get(bound.limit)
        return buckets.of(name) if buckets is not None else None

    def tick(self, now: datetime) -> None:
        """Set the time, and forget full buckets from time to time."""
        self.now = now
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY
        for key, buckets in list(self._buckets.items()):
            buckets.forget_full(now)
            if key not in self._limits and buckets.last <= now:
                del self._buckets[key]

    def tokens(self, bound: RateBound) -> int:
        """Return how many attempts may start now; of several buckets, those of the emptiest."""
        buckets = self._buckets.get(bound.limit)
        return bound.rate.tokens(buckets.last if buckets is not None else None, self.now)

    def full_at(self, item: SpokeLimitView) -> datetime | None:
        """Return what the status of a SpokeLimit says of its bucket."""
        buckets = self._buckets.get(item.key)
        if buckets is None or item.key not in self._limits or not _has_one_bucket(item):
            return None
        known = item.status.full_at
        if buckets.last <= self.now:  # a full bucket is not worth a write
            return known if known is not None and known <= self.now else None
        return buckets.last

    @property
    def sizes(self) -> Mapping[Key, int]:
        """How many buckets each SpokeLimit has besides the shared one."""
        return {key: len(buckets.full_at) for key, buckets in self._buckets.items()}


def _has_one_bucket(item: SpokeLimitView) -> bool:
    return item.scope is not None and (item.scope.kind is ScopeKind.ALL or item.scope.kind in NAMED)
