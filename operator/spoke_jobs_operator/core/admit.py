"""Choose the waiting SpokeJobs that get a Job now, by locks, limits, priority, and turns among organizations.

Queues, their locks and organizations belong to an application, so they are counted per namespace. Admission limits
how many attempts run, but does not guarantee exclusion: the pods' claims in the ledger do.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import NamedTuple, TypeVar

from spoke_jobs.contract.wait_reasons import Wait, WaitReason

from .api_objects import Key

K = TypeVar("K", bound=Hashable)


class Party(NamedTuple):
    """An organization of a namespace. Parties take turns; the jobs without an organization are one party."""

    namespace: str
    organization: int | None


class QueueKey(NamedTuple):
    """A queue of a namespace."""

    namespace: str
    queue: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """The fields of a SpokeJob that admission uses."""

    key: Key
    priority: int
    created_at: datetime
    queue: str = ""
    locks_queue: bool = False
    organization: int | None = None

    @property
    def party(self) -> Party:
        """The party that the SpokeJob belongs to."""
        return Party(self.key.namespace, self.organization)

    @property
    def queue_key(self) -> QueueKey:
        """The SpokeJob's queue."""
        return QueueKey(self.key.namespace, self.queue)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most attempts at a time; None for no limit."""

    running: int | None = None
    """In all served namespaces together."""
    in_namespace: int | None = None
    in_queue: int | None = None
    """In each queue of each namespace; jobs without a queue are not counted."""
    for_organization: int | None = None
    """For each organization of each namespace; jobs without one are not counted."""


@dataclass(slots=True)
class Usage:
    """How many SpokeJobs have a place, by each limit."""

    total: int = 0
    in_namespace: Counter[str] = field(default_factory=Counter)
    in_queue: Counter[QueueKey] = field(default_factory=Counter)
    of_party: Counter[Party] = field(default_factory=Counter)
    locked_by: dict[QueueKey, list[Key]] = field(default_factory=dict)

    @classmethod
    def of(cls, running: Iterable[Candidate]) -> Usage:
        """Count the SpokeJobs that have a place."""
        usage = cls()
        for item in running:
            usage.add(item)
        return usage

    def add(self, item: Candidate) -> None:
        """Count a SpokeJob that gets a place."""
        self._count(item, 1)
        if item.locks_queue:
            self.locked_by.setdefault(item.queue_key, []).append(item.key)

    def remove(self, item: Candidate) -> None:
        """Stop counting a SpokeJob that releases its place."""
        self._count(item, -1)
        if item.locks_queue and (holders := self.locked_by.get(item.queue_key)):
            holders.remove(item.key)
            if not holders:
                del self.locked_by[item.queue_key]

    def _count(self, item: Candidate, by: int) -> None:
        self.total += by
        _bump(self.in_namespace, item.key.namespace, by)
        _bump(self.in_queue, item.queue_key, by)
        _bump(self.of_party, item.party, by)


def _bump(counter: Counter[K], name: K, by: int) -> None:
    counter[name] += by
    if not counter[name]:
        del counter[name]


def why_held(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    """Return why a SpokeJob gets no place now, by the first of :data:`CHECKS` that objects; None if none does."""
    for check in CHECKS:
        if (wait := check(item, usage, limits)) is not None:
            return wait
    return None


def _queue_lock(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    if item.locks_queue and (holders := usage.locked_by.get(item.queue_key)):
        return Wait(WaitReason.QUEUE_LOCKED, holder=holders[0].name, object=item.queue)
    return None


def _queue_limit(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    running = usage.in_queue[item.queue_key]
    if item.queue and limits.in_queue is not None and running >= limits.in_queue:
        return Wait(WaitReason.QUEUE_LIMIT_REACHED, object=item.queue, running=running, limit=limits.in_queue)
    return None


def _organization_limit(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    running, limit = usage.of_party[item.party], limits.for_organization
    if item.organization is not None and limit is not None and running >= limit:
        name = str(item.organization)
        return Wait(WaitReason.ORGANIZATION_LIMIT_REACHED, object=name, running=running, limit=limit)
    return None


def _namespace_limit(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    running = usage.in_namespace[item.key.namespace]
    if limits.in_namespace is not None and running >= limits.in_namespace:
        return Wait(WaitReason.NAMESPACE_LIMIT_REACHED, running=running, limit=limits.in_namespace)
    return None


def _total_limit(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    if is_full(usage, limits):
        return Wait(WaitReason.LIMIT_REACHED, running=usage.total, limit=limits.running)
    return None


CHECKS = (_queue_lock, _queue_limit, _organization_limit, _namespace_limit, _total_limit)
"""In order: the narrowest reason comes first and is reported."""


def is_full(usage: Usage, limits: Limits) -> bool:
    """Whether the limit on all attempts is reached."""
    return limits.running is not None and usage.total >= limits.running


def admit(
    waiting: Collection[Candidate], usage: Usage, limits: Limits, served: Mapping[Party, int]
) -> Iterator[Candidate]:
    """Yield the SpokeJobs that get a Job now, in order, and count each in ``usage``.

    The order is: the highest priority; the party with the fewest running attempts; the party whose last turn is longest
    ago; the oldest job.

    :param served: the number of each party's last turn.
    """
    turns = dict(served)
    turn = max(turns.values(), default=0)
    for group in _by_priority(waiting):
        lines = _lines(group)
        heads = [(usage.of_party[party], turns.get(party, 0), _age(line[-1]), party)
                 for party, line in lines.items()]  # fmt: skip
        heapq.heapify(heads)
        while heads:
            if is_full(usage, limits):
                return
            running, last, _, party = heapq.heappop(heads)
            line = lines[party]
            item = line.pop()
            if why_held(item, usage, limits) is None:
                usage.add(item)
                turn += 1
                turns[party] = last = turn
                running += 1
                yield item
            if line:  # a held job lets the jobs behind it pass
                heapq.heappush(heads, (running, last, _age(line[-1]), party))


def in_order(
    waiting: Collection[Candidate], usage: Usage, served: Mapping[Party, int], most: int
) -> tuple[Candidate, ...]:
    """Return the first ``most`` waiting SpokeJobs in the current order of turns, ignoring limits and locks."""
    counted = Usage(of_party=Counter(usage.of_party))
    unlocked = [replace(item, locks_queue=False) for item in waiting]
    return tuple(islice(admit(unlocked, counted, Limits(), served), most))


def _age(head: Candidate) -> tuple[datetime, Key]:
    """Return the sort key for age; the name makes it unique."""
    return (head.created_at, head.key)


def _by_priority(waiting: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    groups: defaultdict[int, list[Candidate]] = defaultdict(list)
    for item in waiting:
        groups[item.priority].append(item)
    for priority in sorted(groups, reverse=True):
        yield groups[priority]


def _lines(group: Iterable[Candidate]) -> dict[Party, list[Candidate]]:
    """Return the jobs of each party, the oldest last, where removing it is cheap."""
    lines: defaultdict[Party, list[Candidate]] = defaultdict(list)
    for item in sorted(group, key=_age, reverse=True):
        lines[item.party].append(item)
    return lines
