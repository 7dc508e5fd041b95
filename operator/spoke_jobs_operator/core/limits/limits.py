"""The limits, pauses, caps and weights that apply now, in all namespaces and in each.

:func:`compiled` makes them from the settings, the SpokeLimits and the Namespaces. If several apply to a job, the
smallest value wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.limit_model import Pause, applying
from spoke_jobs.contract.limit_scopes import EACH, NAMED, NUMBERED, SUFFIX, ScopeKind, Subject
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import NamespaceView, SpokeLimitView

V = TypeVar("V")
PREFIX = "SPOKE_OPERATOR_"
MOST_RATES = 5
"""The most rates of one scope of a namespace that have buckets of their own. A tenant may write thousands, and each
decision looks at all of them."""
_FIRST_PAUSES = (
    ScopeKind.ALL,
    ScopeKind.QUEUE,
    ScopeKind.EACH_QUEUE,
    ScopeKind.ORGANIZATION,
    ScopeKind.EACH_ORGANIZATION,
    ScopeKind.TYPE,
    ScopeKind.EACH_TYPE,
    ScopeKind.KEY,
)
_PAUSES = (*_FIRST_PAUSES, *(kind for kind in ScopeKind if kind not in _FIRST_PAUSES))
"""Of several pauses of a job, that of the first form is named."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A number, and the object or setting that sets it."""

    value: int
    source: str


@dataclass(frozen=True, slots=True)
class RateBound:
    """A rate, and the SpokeLimit that sets it. Each of several rates of one scope holds."""

    rate: StartRate
    limit: Key

    @property
    def source(self) -> str:
        """The SpokeLimit's name in reasons to wait."""
        return f"{Kind.SPOKELIMIT.kind} {self.limit.name}"


@dataclass(frozen=True, slots=True)
class NamespaceLimits:
    """The limits and pauses that apply in one namespace, by scope (`all`, `queue:reports`, `each-queue`).

    The bound of a named queue never exceeds that of each queue. The same holds for organizations and types. A prefix of
    types, like `ingest.*`, has its own count.
    """

    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """How many attempts may run."""
    rates: Mapping[str, tuple[RateBound, ...]] = field(default_factory=dict)
    """By scope, at most :data:`MOST_RATES` each."""
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    unfinished: Bound | None = None
    """How many unfinished SpokeJobs, the oldest ones, may have attempts."""
    max_priority: Bound | None = None
    default_timeout: Bound | None = None
    max_timeout: Bound | None = None
    weight: int = 1

    @property
    def running(self) -> Bound | None:
        """The bound on all jobs of the namespace."""
        return self.bounds.get(ScopeKind.ALL)

    @property
    def paused(self) -> Pause | None:
        """The pause of the whole namespace."""
        return self.pauses.get(ScopeKind.ALL)

    def rates_of(self, subject: Subject) -> Iterator[tuple[str, tuple[RateBound, ...]]]:
        """Yield the rates of such a job by scope, each with the name that the scope counts the job as."""
        for (_, _, name), bounds in applying(self.rates, subject):
            yield name, bounds

    def pause_of(self, subject: Subject) -> Pause | None:
        """Return the pause that keeps such a job from starting, the namespace's before those of its scopes."""
        found = [(_PAUSES.index(kind), pause) for (kind, _, _), pause in applying(self.pauses, subject)]
        return min(found, key=lambda each: each[0])[1] if found else None

    def priority_of(self, priority: int) -> int:
        """Return the priority with the cap applied."""
        return priority if self.max_priority is None else min(priority, self.max_priority.value)

    def timeout_of(self, seconds: int | None) -> int | None:
        """Return how long an attempt may run; None for no limit."""
        if seconds is None and self.default_timeout is not None:
            seconds = self.default_timeout.value
        if self.max_timeout is None:
            return seconds
        return self.max_timeout.value if seconds is None else min(seconds, self.max_timeout.value)


UNLIMITED = NamespaceLimits()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on running attempts that the operator's settings give, and the limits of each namespace.

    None means no limit.
    """

    running: int | None = None
    """In all served namespaces together."""
    in_namespace: int | None = None
    in_queue: int | None = None
    """In each queue of each namespace; jobs without a queue are not counted."""
    for_organization: int | None = None
    """For each organization of each namespace; jobs without one are not counted."""
    unfinished: int | None = None
    """How many unfinished SpokeJobs of each namespace, the oldest ones, may have attempts."""
    paused: Pause | None = None
    """For all served namespaces."""
    namespaces: Mapping[str, NamespaceLimits] = field(default_factory=lambda: MappingProxyType({}))
    """The namespaces whose limits differ from :attr:`usual`."""
    usual: NamespaceLimits = field(init=False, repr=False, compare=False)
    """The limits of every namespace without SpokeLimits or a pause."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "usual",
            NamespaceLimits(
                bounds={
                    scope.value: Bound(value, f"{PREFIX}{name}")
                    for scope, value, name in (
                        (ScopeKind.ALL, self.in_namespace, "MAX_RUNNING_IN_NAMESPACE"),
                        (ScopeKind.EACH_QUEUE, self.in_queue, "MAX_RUNNING_IN_QUEUE"),
                        (ScopeKind.EACH_ORGANIZATION, self.for_organization, "MAX_RUNNING_FOR_ORGANIZATION"),
                    )
                    if value is not None
                },
                pauses={ScopeKind.ALL.value: self.paused} if self.paused else {},
                unfinished=None
                if self.unfinished is None
                else Bound(self.unfinished, f"{PREFIX}MAX_UNFINISHED_IN_NAMESPACE"),
            ),
        )

    def of(self, namespace: str) -> NamespaceLimits:
        """Return the limits of a namespace."""
        return self.namespaces.get(namespace, self.usual)

    def only_order(self) -> Limits:
        """Return the priority caps and weights alone: they order the turns, and hold no job back."""
        ordering = {
            name: NamespaceLimits(max_priority=item.max_priority, weight=item.weight)
            for name, item in self.namespaces.items()
        }
        return Limits(namespaces=ordering)

    @property
    def settings(self) -> dict[str, int]:
        """The operator's settings that set a limit, by name."""
        known = {
            "running": self.running,
            "in_namespace": self.in_namespace,
            "in_queue": self.in_queue,
            "for_organization": self.for_organization,
            "unfinished": self.unfinished,
        }
        return {name: value for name, value in known.items() if value is not None}


def named(limits: Mapping[str, V], kind: ScopeKind) -> dict[str, V]:
    """Return those of named queues, for example, by the name, in its order."""
    start = f"{kind}:"
    found = [(scope.removeprefix(start), value) for scope, value in limits.items() if scope.startswith(start)]
    return dict(sorted(found, key=lambda each: (int(each[0]) if kind in NUMBERED else 0, each[0])))


def compiled(
    base: Limits, spokelimits: Iterable[SpokeLimitView], namespaces: Iterable[NamespaceView], now: datetime
) -> Limits:
    """Return the settings' limits with what SpokeLimits and Namespaces add to them."""
    by_namespace: defaultdict[str, list[SpokeLimitView]] = defaultdict(list)
    for item in spokelimits:
        if item.scope is not None:
            by_namespace[item.key.namespace].append(item)
    pauses = {
        (name := item.meta.key.name): Pause(
            f"Namespace {name}", item.pause_reason, item.pause_set.manager, item.pause_set.at
        )
        for item in namespaces
        if item.paused
    }
    found = {
        name: _of_namespace(base.usual, sorted(by_namespace[name], key=lambda item: item.key), pauses.get(name), now)
        for name in by_namespace.keys() | pauses.keys()
    }
    return replace(base, namespaces=MappingProxyType(found))


def next_change(spokelimits: Iterable[SpokeLimitView], now: datetime) -> datetime | None:
    """Return when the next pause ends by itself; None if none does."""
    ends = (item.spec.paused.until for item in spokelimits if item.spec and item.spec.paused)
    return min((end for end in ends if end and end > now), default=None)


def changed_namespaces(old: Limits, new: Limits) -> set[str]:
    """Return the namespaces whose limits differ."""
    return {name for name in old.namespaces.keys() | new.namespaces.keys() if old.of(name) != new.of(name)}


def pause_of(item: SpokeLimitView, now: datetime) -> Pause | None:
    """Return the pause that a SpokeLimit sets now."""
    if item.spec is None or item.spec.paused is None:
        return None
    given = item.spec.paused
    by = given.by or item.pause_set.manager
    pause = Pause(source_of(item), given.reason, by, item.pause_set.at, given.until)
    return None if pause.is_over(now) else pause


def source_of(item: SpokeLimitView) -> str:
    """Return the SpokeLimit's name in reasons to wait."""
    return f"{Kind.SPOKELIMIT.kind} {item.key.name}"


def _of_namespace(
    usual: NamespaceLimits, items: list[SpokeLimitView], pause: Pause | None, now: datetime
) -> NamespaceLimits:
    whole = [item for item in items if item.scope is not None and item.scope.kind is ScopeKind.ALL]
    weights = [item.spec.weight for item in whole if item.spec and item.spec.weight is not None]
    return NamespaceLimits(
        bounds=_bounds(usual, items),
        rates=_rates(items),
        pauses=_pauses(usual.paused or pause, items, now),
        unfinished=_smallest(usual.unfinished, *_values(whole, "max_unfinished")),
        max_priority=_smallest(*_values(whole, "max_priority")),
        default_timeout=_smallest(*_values(whole, "default_timeout_seconds")),
        max_timeout=_smallest(*_values(whole, "max_timeout_seconds")),
        weight=min(weights, default=1),
    )


def _bounds(usual: NamespaceLimits, items: Iterable[SpokeLimitView]) -> dict[str, Bound]:
    found = dict(usual.bounds)
    for item in sorted(items, key=lambda item: item.scope is not None and item.scope.kind in NAMED):
        if (scope := item.scope) is None:
            continue
        of_each = None if scope.name.endswith(SUFFIX) else found.get(EACH.get(scope.kind, ""))
        bound = _smallest(found.get(str(scope)), *_values([item], "max_running"), of_each)
        if bound is not None:
            found[str(scope)] = bound
    return found


def _pauses(whole: Pause | None, items: Sequence[SpokeLimitView], now: datetime) -> dict[str, Pause]:
    """Return the pauses by scope. That of the whole namespace is the first one, of the others it is the last one."""
    found = {ScopeKind.ALL.value: whole} if whole else {}
    for kind in _PAUSES:
        for item in items:
            if item.scope is not None and item.scope.kind is kind and (pause := pause_of(item, now)) is not None:
                scope = str(item.scope)
                found[scope] = found.get(scope, pause) if kind is ScopeKind.ALL else pause
    return found


def _rates(items: Iterable[SpokeLimitView]) -> dict[str, tuple[RateBound, ...]]:
    found: defaultdict[str, list[RateBound]] = defaultdict(list)
    for item in items:
        if item.spec is not None and (rate := item.spec.start_rate) is not None:
            found[str(item.scope)].append(RateBound(rate, item.key))
    return {scope: _few(bounds) for scope, bounds in found.items()}


def _few(rates: list[RateBound]) -> tuple[RateBound, ...]:
    """Return at most :data:`MOST_RATES` rates of one scope, under which all of the given ones hold.

    The slowest stay. The last of these gets the smallest burst of all that are left out.
    """
    if len(rates) <= MOST_RATES:
        return tuple(rates)
    slowest = sorted(rates, key=lambda bound: (-bound.rate.interval, bound.rate.burst, bound.limit))
    *kept, last = slowest[:MOST_RATES]
    burst = min(bound.rate.burst for bound in slowest[MOST_RATES - 1 :])
    return (*kept, replace(last, rate=replace(last.rate, burst=burst)))


def _values(items: Iterable[SpokeLimitView], name: str) -> list[Bound]:
    return [
        Bound(value, source_of(item))
        for item in items
        if item.spec is not None and (value := getattr(item.spec, name)) is not None
    ]


def _smallest(*bounds: Bound | None) -> Bound | None:
    return min((bound for bound in bounds if bound is not None), key=lambda bound: bound.value, default=None)
