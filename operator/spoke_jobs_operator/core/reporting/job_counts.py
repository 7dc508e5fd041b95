"""Count a cluster's SpokeJobs for its metrics: by namespace, and by type and queue if that is wanted.

The number of label values is bounded: whoever can create SpokeJobs could otherwise fill the memory of Prometheus.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.limit_scopes import EACH, NAMED, SUFFIX, ScopeKind
from spoke_jobs.contract.metrics.metric_spec import OTHER
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs_operator.core.admission.admit import Usage, count_of
from spoke_jobs_operator.core.limits.limits import Limits, named
from spoke_jobs_operator.core.limits.start_rates import StartRates
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.status import backs_off

NEW = "New"
"""The reason of a waiting SpokeJob whose status names none: it will soon be reconciled, or get its pod."""
MOST_SCOPES = 50
"""How many queues of a namespace have series for their own limits and pauses. The same bound applies to
organizations, types and keys.

Whoever can create SpokeLimits could otherwise fill the memory of Prometheus.
"""

Labels = tuple[str, ...]
"""The namespace, then the values of the labels that are switched on."""


class LabelValues:
    """Choose a SpokeJob's label values, within a bound for each namespace.

    :param extra: "type" and "queue", or one of them, or none.
    :param limit: the most combinations of their values in each namespace. Those beyond it become :data:`OTHER`.
    """

    def __init__(self, extra: Sequence[str] = (), limit: int = 50) -> None:
        self._extra = tuple(name for name in ("type", "queue") if name in extra)  # the order in the catalogue
        self.names = ("namespace", *self._extra)
        self._limit = limit
        self._known: defaultdict[str, set[Labels]] = defaultdict(set)

    def of(self, spokejob: SpokeJob) -> Labels:
        """Return the values for this SpokeJob."""
        if not self._extra:
            return (spokejob.namespace,)
        fields = {"type": spokejob.spec.job_type, "queue": spokejob.spec.queue}
        values = tuple(fields[name] for name in self._extra)
        known = self._known[spokejob.namespace]
        if values not in known:
            if len(known) >= self._limit:
                return self.other(spokejob.namespace)
            known.add(values)
        return (spokejob.namespace, *values)

    def other(self, namespace: str) -> Labels:
        """Return the values for SpokeJobs whose type and queue are not shown."""
        return (namespace, *(OTHER for _ in self._extra))

    def forget(self, namespace: str) -> None:
        """Forget the known values of a namespace that has no SpokeJobs any more."""
        self._known.pop(namespace, None)


class Waits(NamedTuple):
    """The SpokeJobs that wait for one reason."""

    labels: Labels
    reason: str


@dataclass(slots=True)
class JobCounts:
    """How many SpokeJobs run and wait, and since when the oldest one has run or waited."""

    running: Counter[Labels] = field(default_factory=Counter)
    waiting: Counter[Waits] = field(default_factory=Counter)
    oldest_running: dict[Labels, datetime] = field(default_factory=dict)
    oldest_waiting: dict[Waits, datetime] = field(default_factory=dict)


def count_jobs(
    unfinished: Iterable[SpokeJob], has_place: Callable[[Key], bool], labels: Callable[[SpokeJob], Labels]
) -> JobCounts:
    """Count the unfinished SpokeJobs.

    :param has_place: whether a SpokeJob has an attempt, or is admitted and will get one.
    """
    counts = JobCounts()
    for spokejob in unfinished:
        group, status = labels(spokejob), spokejob.status
        if has_place(Key(spokejob.namespace, spokejob.name)):
            counts.running[group] += 1
            record = status.open_attempt
            since = record.started_at if record and record.started_at else spokejob.created_at
            counts.oldest_running[group] = min(since, counts.oldest_running.get(group, since))
        if is_waiting(spokejob):
            waits = Waits(group, waits_for(spokejob))
            counts.waiting[waits] += 1
            since = _waits_since(spokejob)
            counts.oldest_waiting[waits] = min(since, counts.oldest_waiting.get(waits, since))
    return counts


def is_waiting(spokejob: SpokeJob) -> bool:
    """Whether its status shows neither a running attempt nor an end."""
    return spokejob.status.outcome in (None, Outcome.WAITING)


def waits_for(spokejob: SpokeJob) -> str:
    """Return what a waiting SpokeJob waits for, as the metrics and the published state name it."""
    status = spokejob.status
    return WaitReason.BACKING_OFF.value if backs_off(status) else status.cause or NEW


def _waits_since(spokejob: SpokeJob) -> datetime:
    """Since when it has had no running attempt, whatever the reasons were: they may change every minute."""
    newest = spokejob.status.newest
    return (newest and (newest.finished_at or newest.started_at)) or spokejob.created_at


class LimitUse(NamedTuple):
    """A limit of one scope, and how many attempts count towards it."""

    namespace: str
    """Empty for the limit of all namespaces together."""
    scope: str
    """As a SpokeLimit names it."""
    limit: int
    used: int
    """For `each-queue` and the like: the attempts of the busiest one."""


class PausedScope(NamedTuple):
    """A scope in which no attempt starts, and why."""

    namespace: str
    """Empty for all namespaces together."""
    scope: str
    pause: Pause


def limit_uses(limits: Limits, usage: Usage, namespaces: Iterable[str]) -> Iterator[LimitUse]:
    """Return the limits with their uses: the limit of all namespaces together, then those of these namespaces.

    Of the queues that have a limit of their own, return the :data:`MOST_SCOPES` fullest of each namespace. Do the same
    for organizations, types and keys.
    """
    if limits.running is not None:
        yield LimitUse("", "all", limits.running, usage.total)
    busiest = _busiest(usage)
    for namespace in sorted({*namespaces, *limits.namespaces}):
        bounds = limits.of(namespace).bounds
        if whole := bounds.get(ScopeKind.ALL):
            yield LimitUse(namespace, ScopeKind.ALL.value, whole.value, usage.in_namespace[namespace])
        for kind in NAMED:
            if of_each := bounds.get(EACH.get(kind, "")):
                yield LimitUse(namespace, EACH[kind].value, of_each.value, busiest[kind][namespace])
            yield from _fullest(
                LimitUse(namespace, f"{kind}:{name}", bound.value, count_of(usage, namespace, kind, name))
                for name, bound in named(bounds, kind).items()
            )


class RateUse(NamedTuple):
    """The rate of one scope, and how many attempts may start now."""

    namespace: str
    scope: str
    per_second: float
    tokens: int
    """For `each-queue` and the like: of the one that has the fewest."""


def rate_uses(limits: Limits, rates: StartRates) -> Iterator[RateUse]:
    """Return the rates, of each namespace the :data:`MOST_SCOPES` scopes with the fewest tokens.

    Of several rates of one scope, the slowest is returned, with the fewest tokens of all.
    """
    for namespace, own in sorted(limits.namespaces.items()):
        yield from heapq.nsmallest(
            MOST_SCOPES,
            (
                RateUse(
                    namespace,
                    scope,
                    min(bound.rate.count / bound.rate.seconds for bound in bounds),
                    min(rates.tokens(bound) for bound in bounds),
                )
                for scope, bounds in own.rates.items()
            ),
            key=lambda use: (use.tokens, use.scope),
        )


def _fullest(uses: Iterable[LimitUse]) -> list[LimitUse]:
    return heapq.nsmallest(MOST_SCOPES, uses, key=lambda use: (use.limit - use.used, use.scope))


def paused_scopes(limits: Limits) -> Iterator[PausedScope]:
    """Return the scopes that are paused: of each namespace's queues at most :data:`MOST_SCOPES`, and so on."""
    if limits.paused:
        yield PausedScope("", "all", limits.paused)
        return
    for namespace, own in sorted(limits.namespaces.items()):
        if own.paused:
            yield PausedScope(namespace, "all", own.paused)
            continue
        for kind in NAMED:
            of_kind = {f"{kind}:{name}": pause for name, pause in named(own.pauses, kind).items()}
            if of_each := own.pauses.get(EACH.get(kind, "")):
                of_kind[EACH[kind].value] = of_each
            for scope, pause in islice(sorted(of_kind.items()), MOST_SCOPES):
                yield PausedScope(namespace, scope, pause)


def _busiest(usage: Usage) -> Mapping[str, Counter[str]]:
    """Return the number of attempts of the busiest queue, for example, by kind of scope and by namespace."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (namespace, scope), used in usage.in_scope.items():
        kind, colon, name = scope.partition(":")
        if colon and not (kind == ScopeKind.TYPE and name.endswith(SUFFIX)):
            found[kind][namespace] = max(found[kind][namespace], used)
    return found
