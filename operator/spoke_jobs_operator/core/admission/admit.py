"""Choose the waiting SpokeJobs that get a Job now, by pauses, locks, limits, and turns.

Namespaces take turns by weight. Within a namespace priority counts first, then organizations take turns. Queues, their
locks and organizations belong to an application, so they are counted per namespace. The limits are not a guarantee that
two jobs never run at once. Mutual exclusion comes from the pods' claims in the ledger.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from spoke_jobs.contract.limit_model import limit_wait
from spoke_jobs.contract.limit_scopes import LIMIT_REASONS, ScopeKind, Subject, counted_as
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.limits.limits import PREFIX, Limits, NamespaceLimits, RateBound
from spoke_jobs_operator.core.limits.start_rates import StartRates
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.core.obstacles.room import Group, bump

from .turns import Party, Turns

Age = tuple[datetime, int, Key]
"""The sort key by which the oldest comes first."""


@dataclass(slots=True)
class Unfinished:
    """Which SpokeJobs are unfinished, whether they run, wait, are suspended or back off."""

    _ages: dict[Key, Age] = field(default_factory=dict)
    _lines: defaultdict[str, list[Age]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: Key, age: Age) -> None:
        """Count a SpokeJob, unless it is counted already."""
        if key not in self._ages:
            insort(self._lines[key.namespace], age)
            self._ages[key] = age

    def remove(self, key: Key) -> bool:
        """Stop counting a SpokeJob that has ended or is deleted. Return whether it was counted."""
        age = self._ages.pop(key, None)
        if age is None:
            return False
        line = self._lines[key.namespace]
        del line[bisect_left(line, age)]
        if not line:
            del self._lines[key.namespace]
        return True

    def without(self, ended: Key) -> Unfinished:
        """Return a new count of all but one SpokeJob, after an error has left this one half changed."""
        found = Unfinished()
        for key, age in self._ages.items():
            if key != ended:
                found.add(key, age)
        return found

    def count(self, namespace: str) -> int:
        """Return how many a namespace has."""
        return len(self._lines.get(namespace, ()))

    def older_than(self, key: Key, age: Age) -> int:
        """Return how many of the SpokeJob's namespace are older."""
        return bisect_left(self._lines.get(key.namespace, []), self._ages.get(key, age))


class QueueKey(NamedTuple):
    """A queue of a namespace."""

    namespace: str
    queue: str


class ScopeKey(NamedTuple):
    """A scope of limits in a namespace, like `queue:reports` or `each-queue`."""

    namespace: str
    scope: str


class CountedScope(NamedTuple):
    """A scope of limits that applies to a SpokeJob."""

    kind: ScopeKind
    scope: str
    name: str
    """What the scope counts the SpokeJob as, a queue for example."""
    own: ScopeKey
    """The count of the whole scope."""
    limited: ScopeKey
    """The count that a limit of the scope bounds: of `each-queue`, that of the SpokeJob's queue."""


def _counted(namespace: str, subject: Subject) -> tuple[CountedScope, ...]:
    return tuple(
        CountedScope(kind, scope, name, ScopeKey(namespace, scope), ScopeKey(namespace, counted_as(kind, name)))
        for kind, scope, name in subject.scopes()
    )


_kept = lru_cache(maxsize=4_000)(_counted)
"""Making the scopes takes longer than the rest of an admission, and many SpokeJobs have the same."""
_MOST_PREFIXES = 10
"""The scopes of a type with more prefixes are not kept: whoever creates SpokeJobs could fill the memory with them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The fields of a SpokeJob that admission uses."""

    key: Key
    priority: int
    created_at: datetime
    subject: Subject
    """What limits know of it."""
    locks_queue: bool = False
    template: str = ""
    request_id: int = 0
    standby: bool = False
    """Whether its next attempt may take a standby pod."""
    _party: Party | None = field(default=None, init=False, repr=False, compare=False)
    _scopes: tuple[CountedScope, ...] | None = field(default=None, init=False, repr=False, compare=False)

    def rates(self, rules: NamespaceLimits) -> Iterator[tuple[str, tuple[RateBound, ...]]]:
        """Yield the rates that apply to the SpokeJob, by scope."""
        return rules.rates_of(self.subject)

    @property
    def counted(self) -> tuple[CountedScope, ...]:
        """The scopes of limits that apply, the narrowest first."""
        if (scopes := self._scopes) is None:
            if self.subject.job_type.count(".") > _MOST_PREFIXES:
                return _counted(self.key.namespace, self.subject)
            scopes = _kept(self.key.namespace, self.subject)
            object.__setattr__(self, "_scopes", scopes)
        return scopes

    @property
    def age(self) -> Age:
        """The sort key for age. Creation times are whole seconds. Rows of two applications may have the same id."""
        return (self.created_at, self.request_id, self.key)

    @property
    def party(self) -> Party:
        """The party that the SpokeJob belongs to. It is made once."""
        if (party := self._party) is None:
            party = Party(self.key.namespace, self.subject.organization_id)
            object.__setattr__(self, "_party", party)
        return party

    @property
    def group(self) -> Group:
        """The SpokeJobs whose pods compete for the same nodes."""
        return Group(self.key.namespace, self.template)

    @property
    def queue_key(self) -> QueueKey:
        """The SpokeJob's queue."""
        return QueueKey(self.key.namespace, self.subject.queue_name)


@dataclass(slots=True)
class Usage:
    """How many SpokeJobs are admitted or have an attempt: one count for each limit."""

    total: int = 0
    in_namespace: Counter[str] = field(default_factory=Counter)
    of_party: Counter[Party] = field(default_factory=Counter)
    in_scope: Counter[ScopeKey] = field(default_factory=Counter)
    """Of each queue, type, prefix of types, organization and key; and all that have a queue, for example."""
    locked_by: dict[QueueKey, list[Key]] = field(default_factory=dict)
    counts_locks: bool = True
    """Whether a queue's lock holds back the other SpokeJobs that lock the queue."""
    unfinished: Unfinished = field(default_factory=Unfinished)
    holds: Holds | None = None
    """The holds for room, quotas and dependencies; None for no such holds."""
    rates: StartRates = field(default_factory=StartRates, compare=False)

    @classmethod
    def of(cls, running: Iterable[Candidate]) -> Usage:
        """Count the SpokeJobs that have a place."""
        usage = cls()
        for item in running:
            usage.add(item)
        return usage

    def add(self, item: Candidate, *, adopted: bool = False) -> None:
        """Count a SpokeJob that gets a place.

        :param adopted: whether it has its Job already: an earlier leader or process admitted it.
        """
        self._count(item, 1)
        if item.locks_queue and self.counts_locks:
            self.locked_by.setdefault(item.queue_key, []).append(item.key)
        if self.holds is not None:
            self.holds.admit(item.key, item.group, item.subject.job_type, adopted=adopted, standby=item.standby)

    def remove(self, item: Candidate) -> None:
        """Stop counting a SpokeJob that releases its place."""
        self._count(item, -1)
        if self.holds is not None:
            self.holds.release(item.key)
        if item.locks_queue and (holders := self.locked_by.get(item.queue_key)):
            holders.remove(item.key)
            if not holders:
                del self.locked_by[item.queue_key]

    def _count(self, item: Candidate, by: int) -> None:
        self.total += by
        bump(self.in_namespace, item.key.namespace, by)
        bump(self.of_party, item.party, by)
        in_scope = self.in_scope
        for _, _, _, own, _ in item.counted:
            count = in_scope.get(own, 0) + by
            if count:
                in_scope[own] = count
            else:
                in_scope.pop(own, None)


def count_of(usage: Usage, namespace: str, kind: ScopeKind, name: str) -> int:
    """Return how many count under a limit.

    :param name: the queue, for example, that they have.
    """
    return usage.in_scope[ScopeKey(namespace, counted_as(kind, name))]


def counts_of(usage: Usage, namespace: str, kind: ScopeKind) -> Counter[str]:
    """Return how many each queue of a namespace has, for example."""
    start = f"{kind}:"
    found = ((key, count) for key, count in usage.in_scope.items() if key.namespace == namespace)
    return Counter({key.scope.removeprefix(start): count for key, count in found if key.scope.startswith(start)})


def why_held(item: Candidate, usage: Usage, limits: Limits) -> Wait | None:
    """Return why a SpokeJob can't be admitted now; None if it can.

    The reason is the result of the first check in :data:`CHECKS` that fails.
    """
    rules = limits.of(item.key.namespace)
    for check in CHECKS:
        if (wait := check(item, usage, limits, rules)) is not None:
            counted = rules.priority_of(item.priority)
            return wait if counted == item.priority else replace(wait, priority=counted)
    return None


def _paused(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    pause = rules.pause_of(item.subject) if rules.pauses else None
    return None if pause is None else pause.wait()


def _queue_lock(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    if item.locks_queue and (holders := usage.locked_by.get(item.queue_key)):
        return Wait(WaitReason.QUEUE_LOCKED, holder=holders[0].name, object=item.subject.queue_name)
    return None


def _limit(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    if not (bounds := rules.bounds):
        return None
    for kind, scope, name, _, limited in item.counted:
        if (bound := bounds.get(scope)) is None:
            continue
        running = usage.in_scope.get(limited, 0)
        if running >= bound.value:
            code = WaitReason.NAMESPACE_LIMIT_REACHED if kind is ScopeKind.ALL else LIMIT_REASONS[kind]
            return limit_wait(code, name, running, bound.value, bound.source)
    return None


def _unfinished_limit(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    bound, namespace = rules.unfinished, item.key.namespace
    if bound is None:
        return None
    # A SpokeJob that is created later may be an older one, if an older row is launched later.
    ahead = max(usage.unfinished.older_than(item.key, item.age), usage.in_namespace[namespace])
    if ahead < bound.value:
        return None
    count = usage.unfinished.count(namespace)
    return Wait(WaitReason.UNFINISHED_LIMIT_REACHED, running=count, limit=bound.value, source=bound.source)


def _total_limit(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    return limit_wait(WaitReason.LIMIT_REACHED, "", usage.total, limits.running, f"{PREFIX}MAX_RUNNING")


def _rate_limit(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    return usage.rates.why(item.rates(rules)) if rules.rates else None


def _hold(item: Candidate, usage: Usage, limits: Limits, rules: NamespaceLimits) -> Wait | None:
    if usage.holds is None:
        return None
    own = None if rules.running is None else rules.running.value
    places = [most for most in (limits.running, own) if most is not None]
    fewest = min(places, default=None)
    job_type = item.subject.job_type
    return usage.holds.why(item.key, item.group, job_type, item.created_at, fewest, standby=item.standby)


CHECKS = (
    _paused,
    _queue_lock,
    _limit,
    _unfinished_limit,
    _total_limit,
    _rate_limit,
    _hold,
)
"""In order. The pause is first: all other waits may end when a running job ends, a pause does not. The limits follow,
from the narrowest to the widest, then the rates, whose tokens come by themselves."""


def is_full(usage: Usage, limits: Limits, namespaces: Iterable[str]) -> bool:
    """Whether no SpokeJob of these namespaces can be admitted: all attempts, or enough starting pods, are there."""
    return _is_reached(usage, limits) or all(
        _is_closed(usage, namespace) and not _has_standby(usage, namespace) for namespace in namespaces
    )


def _is_closed(usage: Usage, namespace: str) -> bool:
    return usage.holds is not None and usage.holds.closed_in(namespace)


def _has_standby(usage: Usage, namespace: str) -> bool:
    return usage.holds is not None and usage.holds.standby.any_in(namespace)


def _is_reached(usage: Usage, limits: Limits) -> bool:
    return limits.running is not None and usage.total >= limits.running


def admit(waiting: Iterable[Candidate], usage: Usage, limits: Limits, turns: Turns) -> Iterator[Candidate]:
    """Yield the SpokeJobs that get a Job now, in order, and count each in ``usage`` and ``turns``.

    The next namespace is the one with the fewest running attempts for its weight. Ties go to the namespace
    whose next turn is due first, and then to the one with the oldest job. :func:`_of_namespace` chooses the job.
    """
    by_namespace: defaultdict[str, list[Candidate]] = defaultdict(list)
    for item in waiting:
        by_namespace[item.key.namespace].append(item)
    for name in [name for name in by_namespace if _is_closed(usage, name)]:
        # It stays closed while others are admitted.
        if takers := _for_standby(by_namespace[name], usage):
            by_namespace[name] = takers
        else:
            del by_namespace[name]
    lines = {name: _of_namespace(name, items, usage, limits, turns) for name, items in by_namespace.items()}
    oldest = (
        {name: min(item.age for item in items) for name, items in by_namespace.items()} if len(by_namespace) > 1 else {}
    )
    weights = {name: limits.of(name).weight for name in by_namespace}

    def place(name: str) -> tuple[Any, ...]:
        running = usage.in_namespace.get(name, 0)
        return (running / weights[name], *turns.of_namespace(name), oldest.get(name), name)

    heads = [place(name) for name in by_namespace]
    heapq.heapify(heads)
    while heads:
        if _is_reached(usage, limits):
            return
        name = heads[0][-1]
        chosen = next(lines[name], None)
        if chosen is None:  # no other SpokeJob of the namespace may start
            heapq.heappop(heads)
            continue
        start(chosen, usage, limits, turns)
        if len(heads) > 1:  # otherwise the next one is of this namespace, too
            heapq.heapreplace(heads, place(name))
        yield chosen


def start(item: Candidate, usage: Usage, limits: Limits, turns: Turns) -> None:
    """Count a SpokeJob that gets a Job now: its place, its tokens and its turn."""
    rules = limits.of(item.key.namespace)
    usage.add(item)
    if rules.rates:
        usage.rates.take(item.rates(rules))
    turns.take(item.party, rules.weight)


def _of_namespace(
    namespace: str, waiting: Iterable[Candidate], usage: Usage, limits: Limits, turns: Turns
) -> Iterator[Candidate]:
    """Yield a namespace's SpokeJobs that may start. The caller counts each one before it takes the next.

    The order is: the highest priority; the party with the fewest running attempts; the party with the earliest last
    turn; the oldest job, and of those that lock the same queue the one with the oldest row.
    """
    rules = limits.of(namespace)
    if rules.paused:
        return
    of_all, whole = rules.rates.get(ScopeKind.ALL), rules.running
    waiting, chosen = tuple(waiting), set[Key]()

    def place(party: Party, line: list[Candidate]) -> tuple[Any, ...]:
        return (usage.of_party.get(party, 0), turns.of_party(party), line[-1].age, party)

    for group in _by_priority(waiting, rules):
        lines = _lines(group)
        heads = [place(party, line) for party, line in lines.items()]
        heapq.heapify(heads)
        while heads:
            if whole is not None and usage.in_namespace.get(namespace, 0) >= whole.value:
                return
            if of_all and usage.rates.why([("", of_all)]) is not None:
                return
            if _is_closed(usage, namespace):
                yield from _without_a_new_pod((item for item in waiting if item.key not in chosen), usage, limits)
                return
            party = heapq.heappop(heads)[-1]
            line = lines[party]
            item = line.pop()
            if why_held(item, usage, limits) is None:
                chosen.add(item.key)
                yield item
            if line:  # a held job lets the jobs behind it pass
                heapq.heappush(heads, place(party, line))


def _without_a_new_pod(waiting: Iterable[Candidate], usage: Usage, limits: Limits) -> Iterator[Candidate]:
    """Yield those that take a standby pod although no further pod may start, by priority and age."""
    takers = _for_standby(waiting, usage)
    for item in sorted(takers, key=lambda item: (-limits.of(item.key.namespace).priority_of(item.priority), item.age)):
        if usage.holds is not None and usage.holds.standby.has(item.group) and why_held(item, usage, limits) is None:
            yield item


def _for_standby(waiting: Iterable[Candidate], usage: Usage) -> list[Candidate]:
    """Return those for which a standby pod is free."""
    holds = usage.holds
    if holds is None:
        return []
    return [item for item in waiting if item.standby and holds.standby.has(item.group)]


def in_order(
    waiting: Iterable[Candidate], usage: Usage, limits: Limits, turns: Turns, most: int
) -> tuple[Candidate, ...]:
    """Return the first ``most`` waiting SpokeJobs in the current order of turns, ignoring limits and locks."""
    counted = Usage(of_party=Counter(usage.of_party), in_namespace=Counter(usage.in_namespace), counts_locks=False)
    return tuple(islice(admit(waiting, counted, limits.only_order(), turns.copy()), most))


def _by_priority(waiting: Iterable[Candidate], rules: NamespaceLimits) -> Iterator[list[Candidate]]:
    groups: defaultdict[int, list[Candidate]] = defaultdict(list)
    for item in waiting:
        groups[rules.priority_of(item.priority)].append(item)
    for priority in sorted(groups, reverse=True):
        yield groups[priority]


def _lines(group: Iterable[Candidate]) -> dict[Party, list[Candidate]]:
    """Return the jobs of each party, the oldest last, where removing it is cheap."""
    lines: defaultdict[Party, list[Candidate]] = defaultdict(list)
    for item in sorted(group, key=lambda item: item.age, reverse=True):
        lines[item.party].append(item)
    return {party: _by_row(line) for party, line in lines.items()}


def _by_row(line: list[Candidate]) -> list[Candidate]:
    """Put the jobs that lock the same queue in the order of their rows, whichever SpokeJob was created first.

    They exchange the places that they have; all others keep theirs. Rows alone are no age, because applications that
    share a namespace number their own.
    """
    locking: defaultdict[QueueKey, deque[Candidate]] = defaultdict(deque)
    for item in sorted(line, key=lambda item: item.request_id, reverse=True):
        if item.locks_queue:
            locking[item.queue_key].append(item)
    return [locking[item.queue_key].popleft() if item.locks_queue else item for item in line]
