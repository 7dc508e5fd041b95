"""Decide which jobs may start under the limits. Pure: counts, buckets and the time are inputs."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, islice
from typing import NamedTuple

from spoke_jobs.contract.limit_model import Pause, applying, limit_wait, rate_wait
from spoke_jobs.contract.limit_scopes import (
    LIMIT_REASONS,
    PLAIN_DIMENSIONS,
    TYPE_DIMENSION,
    Dimension,
    Scope,
    ScopeKind,
    Subject,
)
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.limits.job_limit import JobLimit, Rate

Bucket = tuple[int, str]
"""The bucket of a rate: the limit's id, and the queue, for example. An empty name stands for the whole scope."""
_NAME_LIMIT = 200


class Counted(NamedTuple):
    """A count under a limit: of the whole scope, or of one of each."""

    limit: JobLimit
    name: str


class LimitUse(NamedTuple):
    """A limit on running jobs, and how many of them count towards it."""

    scope: str
    limit: int
    used: int
    """For `each-queue` and the like: of the busiest one."""


class LimitFigures(NamedTuple):
    """The limits of a ledger, as metrics show them."""

    uses: tuple[LimitUse, ...]
    paused: Mapping[str, str]
    """Who has paused a scope, by scope."""


class LimitSet:
    """The limits of a ledger. Looking up those of a job takes the same time however many there are."""

    def __init__(self, limits: Iterable[JobLimit]) -> None:
        self.limits = tuple(limits)
        self._by_scope = {str(limit.scope): limit for limit in self.limits}

    def __bool__(self) -> bool:
        return bool(self.limits)

    def of(self, subject: Subject) -> Iterator[Counted]:
        """Yield the limits that apply to a job, the narrowest first."""
        for (_, _, name), limit in applying(self._by_scope, subject, self.kinds):
            yield Counted(limit, name)

    @cached_property
    def closable(self) -> tuple[JobLimit, ...]:
        """The limits that can keep a whole scope from starting while nothing of it runs."""
        return tuple(
            limit
            for limit in self.limits
            if limit.pause is not None or limit.bounds.max_running == 0 or limit.bounds.rate is not None
        )

    @cached_property
    def kinds(self) -> frozenset[ScopeKind]:
        """The forms of the limits' scopes."""
        return frozenset(limit.scope.kind for limit in self.limits)

    @cached_property
    def scopes(self) -> frozenset[Scope]:
        """The limits' scopes."""
        return frozenset(limit.scope for limit in self.limits)

    @cached_property
    def of_all(self) -> bool:
        """Whether a limit applies to every job."""
        return bool(self.kinds & {ScopeKind.ALL, ScopeKind.EACH_TYPE})

    @cached_property
    def counts(self) -> bool:
        """Whether a limit depends on how many jobs run."""
        return any(limit.bounds.max_running for limit in self.limits)

    @cached_property
    def rated(self) -> tuple[JobLimit, ...]:
        """The limits with a rate."""
        return tuple(limit for limit in self.limits if limit.bounds.rate is not None)

    @cached_property
    def with_buckets(self) -> Mapping[int, JobLimit]:
        """The limits of which each queue, for example, has a bucket of its own, by id."""
        return {limit.id: limit for limit in self.limits if limit.has_buckets}


@dataclass(frozen=True, slots=True)
class Closed:
    """The jobs of which none may start now. A claim leaves them out of its search."""

    everything: bool = False
    types: frozenset[str] = frozenset()
    """Names, and prefixes like ``ingest.*``."""
    named: frozenset[tuple[ScopeKind, str]] = frozenset()
    """The queues, organizations and so on that are closed, by the form that names them."""
    every: frozenset[ScopeKind] = frozenset()
    """The forms of which each name is closed: with that of queues, each job with a queue is held."""
    lasting: bool = True
    """Whether they stay closed until a limit is changed."""

    @property
    def nothing(self) -> bool:
        """Whether no scope is closed."""
        return self == NOTHING_CLOSED

    def names(self, dimension: Dimension) -> frozenset[str]:
        """Return the closed queues, for example."""
        return frozenset(name for kind, name in self.named if kind is dimension.kind)


NOTHING_CLOSED = Closed()


class Admission:
    """Admit jobs one after the other.

    :param running: how many jobs run, by their subjects.
    :param full_at: the buckets of rates, if they are newer than those of the limits. Of a limit of each queue, for
        example, those that are not full. The bucket of the whole scope, if there is one, then holds for each queue.
    :param asked_at: when the process asked for the time `now`, on its own monotonic clock.
    """

    def __init__(
        self,
        limits: LimitSet,
        running: Mapping[Subject, int],
        now: datetime,
        full_at: Mapping[Bucket, datetime | None] | None = None,
        asked_at: float = math.inf,
    ) -> None:
        self._limits = limits
        self._asked_at = asked_at
        self.now = now
        """The time that decides."""
        self._full_at = dict(full_at or {})
        self.taken: dict[Bucket, datetime] = {}
        """When the buckets from which tokens were taken are full again."""
        self._running: Counter[tuple[Scope, str]] = Counter()
        self._known: dict[tuple[Scope, str], JobLimit] = {}
        for subject, count in running.items():
            self._count(subject, count)

    @property
    def kinds(self) -> frozenset[ScopeKind]:
        """The forms of the limits' scopes."""
        return self._limits.kinds

    def why_held(self, subject: Subject) -> Wait | None:
        """Return why a job can't start now; None if it can. A pause is named before a limit."""
        full = (wait for counted in self._limits.of(subject) if (wait := self._full(*counted)) is not None)
        return next(chain(self.pauses(subject), full), None)

    def pauses(self, subject: Subject) -> Iterator[Wait]:
        """Yield each pause that keeps a job from starting, the narrowest first."""
        return (wait for limit, _ in self._limits.of(subject) if (wait := self._paused(limit)) is not None)

    def limits_any(self, subject: Subject) -> bool:
        """Whether a limit, a rate or a pause applies to a job, even if that does not hold it back now."""
        return any(True for _ in self.limits_of(subject))

    def limits_of(self, subject: Subject) -> Iterator[Counted]:
        """Yield the limits that apply to a job, the narrowest first."""
        return self._limits.of(subject)

    def may_have_filled(self, limit: JobLimit, name: str, starts: int, seconds: float) -> bool:
        """Return whether a limit may have held jobs back for some time, if since then so many have started.

        A rate has done so if at least half of its tokens were taken: of those that it had, and those that came.
        """
        most, rate = limit.bounds.max_running, limit.bounds.rate
        if not _fills(limit, name):
            return False
        if most is not None and self._running[limit.scope, name] + starts >= most:
            return True
        if rate is None:
            return False
        return 2 * starts >= rate.tokens(self._bucket(limit, name), self.now) + seconds * 1_000_000 / rate.interval

    def admit(self, subject: Subject) -> bool:
        """Let a job start if it may: count it, and take a token of each rate."""
        if self.why_held(subject) is not None:
            return False
        self._count(subject, 1)
        for rate, (limit, name) in self._rates(subject):
            bucket = bucket_of(limit, name)
            self._full_at[bucket] = self.taken[bucket] = rate.started(self._bucket(limit, name), self.now)
        return True

    def startable(self, due: Mapping[Subject, int]) -> int:
        """Return how many of some due jobs may start now. None of them is admitted.

        Under limits on queues and on organizations, for example, the order of the subjects may matter: it is kept.
        """
        room: dict[tuple[Scope, str], float] = {}
        total = 0
        for subject, count in due.items():
            counted = list(self._limits.of(subject))
            for limit, name in counted:
                room.setdefault((limit.scope, name), self._room(limit, name))
            starts = min([count, *(room[limit.scope, name] for limit, name in counted)])
            for limit, name in counted:
                room[limit.scope, name] -= starts
            total += int(starts)
        return total

    def start_by(self, subject: Subject) -> float:
        """Return until when a worker may start a job that was admitted, on the monotonic clock of the process.

        The process has asked for the time before the tokens were taken: its clock is compared with no other.
        """
        return self._asked_at + min((rate.start_seconds for rate, _ in self._rates(subject)), default=math.inf)

    def closed(self) -> Closed:
        """Return the scopes of which nothing may start now."""
        shut = [
            limit
            for limit in self._limits.closable
            if self._paused(limit) is not None or self._full(limit, "") is not None
        ]
        full = [key for key, limit in self._known.items() if self._running[key] >= (limit.bounds.max_running or 0)]
        full += [(limit.scope, name) for limit, name in self._buckets() if self._shortage(limit, name)]
        found = [(limit.scope, limit.scope.name) for limit in shut] + full

        def names(dimension: Dimension) -> frozenset[str]:
            return frozenset(name for scope, name in found if scope.kind in dimension.kinds and name)

        def whole(kind: ScopeKind | None) -> bool:
            return any(scope.kind is kind and not name for scope, name in found)

        return Closed(
            everything=any(scope.kind is ScopeKind.ALL for scope, _ in found) or whole(ScopeKind.EACH_TYPE),
            types=names(TYPE_DIMENSION),
            named=frozenset((dimension.kind, name) for dimension in PLAIN_DIMENSIONS for name in names(dimension)),
            every=frozenset(dimension.kind for dimension in PLAIN_DIMENSIONS if whole(dimension.each)),
            lasting=not full and all(limit.shut_until_changed for limit in shut),
        )

    def next_token_seconds(self) -> float | None:
        """Return when the first of the empty buckets has a token; None if none is empty."""
        short = [self._shortage(limit, "") for limit in self._limits.rated]
        short += [self._shortage(limit, name) for limit, name in self._buckets()]
        return min((wait.total_seconds() for wait in short if wait), default=None)

    def figures(self, most: int) -> LimitFigures:
        """Return the limits with the least room, and the pauses.

        :param most: how many of each.
        """
        busiest: Counter[Scope] = Counter()
        for (scope, _), count in self._running.items():
            busiest[scope] = max(busiest[scope], count)
        uses = [
            LimitUse(str(limit.scope), limit.bounds.max_running, busiest[limit.scope])
            for limit in self._limits.limits
            if limit.bounds.max_running is not None
        ]
        paused = {
            str(limit.scope): pause.by
            for limit in self._limits.limits
            if (pause := limit.paused_at(self.now)) is not None
        }
        return LimitFigures(
            tuple(heapq.nsmallest(most, uses, key=lambda use: (use.limit - use.used, use.scope))),
            dict(islice(sorted(paused.items()), most)),
        )

    def running(self, limit: JobLimit) -> int:
        """Return how many jobs of the limit's scope run."""
        return sum(count for (scope, _), count in self._running.items() if scope == limit.scope)

    def _rates(self, subject: Subject) -> Iterator[tuple[Rate, Counted]]:
        """Yield the rates of which a job takes a token."""
        for counted in self._limits.of(subject):
            rate = counted.limit.bounds.rate
            # A job without a type, which other code has written, takes no token of other types.
            if rate is not None and (counted.name or not counted.limit.has_buckets):
                yield rate, counted

    def _room(self, limit: JobLimit, name: str) -> float:
        """Return how many jobs may start now under a limit."""
        if self._paused(limit) is not None or self._full(limit, name) is not None:
            return 0
        if not _fills(limit, name):
            return math.inf
        most, rate = limit.bounds.max_running, limit.bounds.rate
        return min(
            math.inf if most is None else most - self._running[limit.scope, name],
            math.inf if rate is None else rate.tokens(self._bucket(limit, name), self.now),
        )

    def _count(self, subject: Subject, count: int) -> None:
        for limit, name in self._limits.of(subject):
            if not _fills(limit, name):
                continue
            key = (limit.scope, name)
            self._running[key] += count
            if limit.bounds.max_running:
                self._known[key] = limit

    def _paused(self, limit: JobLimit) -> Wait | None:
        pause = limit.paused_at(self.now)
        if pause is None:
            return None
        source = f"the pause of {limit.scope}"
        return Pause(source, pause.reason, pause.by, pause.since, pause.until).wait(str(limit.scope))

    def _full(self, limit: JobLimit, name: str) -> Wait | None:
        source = f"limit {limit.scope}"
        running, code = self._running[limit.scope, name], LIMIT_REASONS[limit.scope.kind]
        if (wait := limit_wait(code, name, running, limit.bounds.max_running, source)) is not None:
            return wait
        rate = limit.bounds.rate
        if rate is None or not (short := self._shortage(limit, name)):
            return None
        return rate_wait(rate, source, self.now + short)

    def _shortage(self, limit: JobLimit, name: str) -> timedelta:
        """Return the time until a rate has a token; zero if it has one, or if there is no rate."""
        rate = limit.bounds.rate
        return timedelta() if rate is None else rate.wait(self._bucket(limit, name), self.now)

    def _bucket(self, limit: JobLimit, name: str) -> datetime | None:
        if not limit.has_buckets:
            return self._full_at.get((limit.id, ""), limit.full_at)
        rate = limit.bounds.rate
        assert rate is not None
        found = [self._full_at.get(bucket) for bucket in ((limit.id, ""), bucket_of(limit, name))]
        # Of each its own backlog: one that is far too long, since the rate was raised, is bounded by itself.
        return self.now + timedelta(microseconds=max(rate.backlog(full_at, self.now) for full_at in found))

    def _buckets(self) -> Iterator[Counted]:
        """Yield the queues, for example, that have a bucket of their own."""
        limits = self._limits.with_buckets
        for number, name in self._full_at if limits else ():
            if name and number in limits:
                yield Counted(limits[number], name)


def _fills(limit: JobLimit, name: str) -> bool:
    """Whether a job fills a limit. One without a type, which other code has written, fills none of other types."""
    return bool(name) or limit.scope.kind is ScopeKind.ALL


def bucket_of(limit: JobLimit, name: str) -> Bucket:
    """Return the bucket from which a job that is counted so takes its token. It fits into an index.

    Other code may have written any name. A long one stands under a hash, which no search knows.
    """
    if not limit.has_buckets:
        return limit.id, ""
    if len(name) > _NAME_LIMIT:
        name = f"sha256:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return limit.id, name
