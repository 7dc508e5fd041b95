"""The limits, pauses, caps and weights that apply now, in all namespaces and in each.

:func:`compiled` makes them from the settings, the SpokeLimits and the Namespaces. If several apply to a job, the
smallest value wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

from spoke_jobs.contract.limit_scopes import SUFFIX, ScopeKind, names_of_type, scopes_of
from spoke_jobs.contract.names import LIMIT_KIND
from spoke_jobs.contract.start_rate import StartRate

from .api_objects import Key
from .limit_objects import NamespaceView, SpokeLimitView

K = TypeVar("K")
PREFIX = "SPOKE_OPERATOR_"
MOST_RATES = 5
"""The most rates of one scope of a namespace that have buckets of their own. A tenant may write thousands, and each
decision looks at all of them."""


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
        return f"{LIMIT_KIND} {self.limit.name}"


@dataclass(frozen=True, slots=True)
class Pause:
    """Why no attempt starts."""

    source: str
    """The object or setting that pauses."""
    note: str = ""
    """The reason that was given."""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether the pause has ended by itself."""
        return self.until is not None and self.until <= now


@dataclass(frozen=True, slots=True)
class NamespaceLimits:
    """The limits and pauses that apply in one namespace.

    `in_queue` never exceeds `in_each_queue`: the smaller of the two bounds applies to a named queue. The same holds for
    organizations and types. A prefix of types, like `ingest.*`, has its own count.
    """

    running: Bound | None = None
    in_each_queue: Bound | None = None
    for_each_organization: Bound | None = None
    in_queue: Mapping[str, Bound] = field(default_factory=dict)
    for_organization: Mapping[int, Bound] = field(default_factory=dict)
    of_each_type: Bound | None = None
    of_type: Mapping[str, Bound] = field(default_factory=dict)
    """By type, or by prefix like `ingest.*`."""
    with_key: Mapping[str, Bound] = field(default_factory=dict)
    rates: Mapping[str, tuple[RateBound, ...]] = field(default_factory=dict)
    """By scope, at most :data:`MOST_RATES` each."""
    paused: Pause | None = None
    paused_queues: Mapping[str, Pause] = field(default_factory=dict)
    """The empty name stands for every queue that is not named."""
    paused_organizations: Mapping[int | None, Pause] = field(default_factory=dict)
    """None stands for every organization that is not named."""
    paused_types: Mapping[str, Pause] = field(default_factory=dict)
    """By type or prefix. The empty name stands for every type that is not named."""
    paused_keys: Mapping[str, Pause] = field(default_factory=dict)
    unfinished: Bound | None = None
    """How many unfinished SpokeJobs, the oldest ones, may have attempts."""
    max_priority: Bound | None = None
    default_timeout: Bound | None = None
    max_timeout: Bound | None = None
    weight: int = 1

    def queue_bound(self, queue: str) -> Bound | None:
        """Return the bound on a queue's jobs; none for jobs without a queue."""
        return self.in_queue.get(queue, self.in_each_queue) if queue else None

    def organization_bound(self, organization: int | None) -> Bound | None:
        """Return the bound on an organization's jobs; none for jobs without one."""
        if organization is None:
            return None
        return self.for_organization.get(organization, self.for_each_organization)

    def type_bounds(self, job_type: str) -> Iterator[tuple[str, Bound]]:
        """Yield the bounds on a type's jobs, the narrowest first, each with the type or prefix that it counts."""
        if not (self.of_type or self.of_each_type):
            return
        for name in names_of_type(job_type):
            bound = self.of_type.get(name, self.of_each_type if name == job_type else None)
            if bound is not None:
                yield name, bound

    def rates_of(
        self, queue: str, organization: int | None, job_type: str, key: str
    ) -> Iterator[tuple[str, tuple[RateBound, ...]]]:
        """Yield the rates of such a job by scope, each with the name that the scope counts the job as."""
        if self.rates:
            for scope, name in scopes_of(job_type, queue, organization, key or None):
                if bounds := self.rates.get(scope):
                    yield name, bounds

    def pause_of(self, queue: str, organization: int | None, job_type: str = "", key: str = "") -> Pause | None:
        """Return the pause that keeps such a job from starting, the namespace's before those of its scopes."""
        if self.paused:
            return self.paused
        if queue and (pause := self.paused_queues.get(queue) or self.paused_queues.get("")):
            return pause
        if organization is not None and self.paused_organizations:
            pause = self.paused_organizations.get(organization) or self.paused_organizations.get(None)
            if pause is not None:
                return pause
        if self.paused_types:
            for name in (*names_of_type(job_type), ""):
                if (pause := self.paused_types.get(name)) is not None:
                    return pause
        return self.paused_keys.get(key) if key else None

    def pauses(self) -> Iterator[tuple[str, Pause]]:
        """Return the pauses with their scopes."""
        if self.paused:
            yield ScopeKind.ALL.value, self.paused
        for queue, pause in self.paused_queues.items():
            yield f"{ScopeKind.QUEUE}:{queue}" if queue else ScopeKind.EACH_QUEUE.value, pause
        for number, pause in self.paused_organizations.items():
            yield (
                ScopeKind.EACH_ORGANIZATION.value if number is None else f"{ScopeKind.ORGANIZATION}:{number}",
                pause,
            )
        for name, pause in self.paused_types.items():
            yield f"{ScopeKind.TYPE}:{name}" if name else ScopeKind.EACH_TYPE.value, pause
        for key, pause in self.paused_keys.items():
            yield f"{ScopeKind.KEY}:{key}", pause

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
                running=_setting(self.in_namespace, "MAX_RUNNING_IN_NAMESPACE"),
                in_each_queue=_setting(self.in_queue, "MAX_RUNNING_IN_QUEUE"),
                for_each_organization=_setting(self.for_organization, "MAX_RUNNING_FOR_ORGANIZATION"),
                unfinished=_setting(self.unfinished, "MAX_UNFINISHED_IN_NAMESPACE"),
                paused=self.paused,
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


def compiled(
    base: Limits, spokelimits: Iterable[SpokeLimitView], namespaces: Iterable[NamespaceView], now: datetime
) -> Limits:
    """Return the settings' limits with what SpokeLimits and Namespaces add to them."""
    by_namespace: defaultdict[str, list[SpokeLimitView]] = defaultdict(list)
    for item in spokelimits:
        if item.scope is not None:
            by_namespace[item.key.namespace].append(item)
    pauses = {
        item.name: Pause(f"Namespace {item.name}", item.pause_reason, item.pause_set.manager, item.pause_set.at)
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
    return f"{LIMIT_KIND} {item.key.name}"


def _of_namespace(
    usual: NamespaceLimits, items: list[SpokeLimitView], pause: Pause | None, now: datetime
) -> NamespaceLimits:
    by_kind: defaultdict[ScopeKind, list[tuple[str, SpokeLimitView]]] = defaultdict(list)
    for item in items:
        if item.scope is not None:
            by_kind[item.scope.kind].append((item.scope.name, item))
    of_scope = by_kind.__getitem__

    whole = [item for _, item in of_scope(ScopeKind.ALL)]
    in_each = _smallest(usual.in_each_queue, *_maxima(item for _, item in of_scope(ScopeKind.EACH_QUEUE)))
    for_each = _smallest(
        usual.for_each_organization, *_maxima(item for _, item in of_scope(ScopeKind.EACH_ORGANIZATION))
    )
    queues = _by_name(of_scope(ScopeKind.QUEUE), in_each, str)
    organizations = _by_name(of_scope(ScopeKind.ORGANIZATION), for_each, int)
    of_each_type = _smallest(*_maxima(item for _, item in of_scope(ScopeKind.EACH_TYPE)))
    types = of_scope(ScopeKind.TYPE)
    of_type = {
        **_by_name([entry for entry in types if not entry[0].endswith(SUFFIX)], of_each_type, str),
        **_by_name([entry for entry in types if entry[0].endswith(SUFFIX)], None, str),
    }
    weights = [item.spec.weight for item in whole if item.spec and item.spec.weight is not None]
    paused = usual.paused or pause or next(filter(None, (pause_of(item, now) for item in whole)), None)

    def paused_by_name(*kinds: ScopeKind) -> dict[str, Pause]:
        entries = (entry for kind in kinds for entry in of_scope(kind))
        return {name: found for name, item in entries if (found := pause_of(item, now))}

    paused_organizations = {
        int(name) if name else None: found
        for name, found in paused_by_name(ScopeKind.EACH_ORGANIZATION, ScopeKind.ORGANIZATION).items()
    }
    return NamespaceLimits(
        running=_smallest(usual.running, *_maxima(whole)),
        in_each_queue=in_each,
        for_each_organization=for_each,
        in_queue=queues,
        for_organization=organizations,
        of_each_type=of_each_type,
        of_type=of_type,
        with_key=_by_name(of_scope(ScopeKind.KEY), None, str),
        rates=_rates(items),
        paused=paused,
        paused_queues=paused_by_name(ScopeKind.EACH_QUEUE, ScopeKind.QUEUE),
        paused_organizations=paused_organizations,
        paused_types=paused_by_name(ScopeKind.EACH_TYPE, ScopeKind.TYPE),
        paused_keys=paused_by_name(ScopeKind.KEY),
        unfinished=_smallest(usual.unfinished, *_values(whole, "max_unfinished")),
        max_priority=_smallest(*_values(whole, "max_priority")),
        default_timeout=_smallest(*_values(whole, "default_timeout_seconds")),
        max_timeout=_smallest(*_values(whole, "max_timeout_seconds")),
        weight=min(weights, default=1),
    )


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


def _by_name(
    items: list[tuple[str, SpokeLimitView]], of_each: Bound | None, convert: Callable[[str], K]
) -> dict[K, Bound]:
    found: dict[K, Bound] = {}
    for name, item in items:
        key = convert(name)
        bound = _smallest(found.get(key), *_maxima([item]), of_each)
        if bound is not None:
            found[key] = bound
    return found


def _maxima(items: Iterable[SpokeLimitView]) -> list[Bound]:
    return _values(items, "max_running")


def _values(items: Iterable[SpokeLimitView], name: str) -> list[Bound]:
    return [
        Bound(value, source_of(item))
        for item in items
        if item.spec is not None and (value := getattr(item.spec, name)) is not None
    ]


def _smallest(*bounds: Bound | None) -> Bound | None:
    return min((bound for bound in bounds if bound is not None), key=lambda bound: bound.value, default=None)


def _setting(value: int | None, name: str) -> Bound | None:
    return None if value is None else Bound(value, f"{PREFIX}{name}")
