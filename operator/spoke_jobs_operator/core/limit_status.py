"""Decide the status of SpokeLimits: how many jobs they apply to, and whether they are enforced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.condition import Condition
from spoke_jobs.contract.limit_scopes import Scope, ScopeKind
from spoke_jobs.contract.spokelimit import ENFORCED, PAUSED, SpokeLimitStatus
from spoke_jobs.contract.wait_reasons import pause_sentence

from .admit import Candidate, LimitKey, QueueKey, TypeKey, Usage
from .limit_objects import SpokeLimitView
from .limits import pause_of
from .turns import Party

_MESSAGE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """How many SpokeJobs run, or how many wait, by namespace, queue, party, type and limit key."""

    namespaces: Counter[str]
    queues: Counter[QueueKey]
    parties: Counter[Party]
    types: Counter[TypeKey]
    """By type, and by prefix of types: of those that wait, only the named ones."""
    keys: Counter[LimitKey]

    @classmethod
    def running(cls, usage: Usage) -> Counts:
        """Return the counts of the SpokeJobs that have a place."""
        return cls(usage.in_namespace, usage.in_queue, usage.of_party, usage.of_type, usage.with_key)

    @classmethod
    def waiting(cls, waiting: Iterable[Candidate], named: Iterable[SpokeLimitView]) -> Counts:
        """Count the SpokeJobs that wait for a place.

        :param named: the SpokeLimits whose types and prefixes are counted. One type may have a hundred prefixes, so to
            count all of them could take more memory than there is.
        """
        counts = cls(Counter(), Counter(), Counter(), Counter(), Counter())
        types = {
            TypeKey(item.key.namespace, scope.name)
            for item in named
            if (scope := item.scope) is not None and scope.kind is ScopeKind.TYPE
        }
        namespaces = {key.namespace for key in types}
        for item in waiting:
            counts.namespaces[item.key.namespace] += 1
            counts.queues[item.queue_key] += 1
            counts.parties[item.party] += 1
            if item.key.namespace in namespaces:
                counts.types.update(key for key in item.type_keys if key in types)
            if item.limit_key:
                counts.keys[LimitKey(item.key.namespace, item.limit_key)] += 1
        return counts

    def of(self, namespace: str, scope: Scope) -> int:
        """Return the count of a scope. For each-type, each-queue and each-organization it is the sum of all of them."""
        match scope.kind:
            case ScopeKind.ALL:
                return self.namespaces[namespace]
            case ScopeKind.QUEUE:
                return self.queues[QueueKey(namespace, scope.name)]
            case ScopeKind.ORGANIZATION:
                return self.parties[Party(namespace, int(scope.name))]
            case ScopeKind.EACH_QUEUE:
                return self.namespaces[namespace] - self.queues[QueueKey(namespace, "")]
            case ScopeKind.EACH_ORGANIZATION:
                return self.namespaces[namespace] - self.parties[Party(namespace, None)]
            case ScopeKind.TYPE:
                return self.types[TypeKey(namespace, scope.name)]
            case ScopeKind.KEY:
                return self.keys[LimitKey(namespace, scope.name)]
            case ScopeKind.EACH_TYPE:
                return self.namespaces[namespace]


def status_of(
    item: SpokeLimitView, running: Counts, waiting: Counts, now: datetime, full_at: datetime | None = None
) -> SpokeLimitStatus:
    """Return the status of a SpokeLimit. A condition keeps its time as long as its status stays the same.

    :param full_at: when the bucket of its rate is full.
    """
    scope, namespace = item.scope, item.key.namespace
    return SpokeLimitStatus(
        observed_generation=item.generation,
        running=running.of(namespace, scope) if scope else None,
        waiting=waiting.of(namespace, scope) if scope else None,
        full_at=full_at,
        conditions=(_enforced(item, now), _paused(item, now)),
    )


def is_urgent(old: SpokeLimitStatus, new: SpokeLimitStatus) -> bool:
    """Whether the statuses differ in more than their counts."""
    return (old.observed_generation, old.conditions) != (new.observed_generation, new.conditions)


def _enforced(item: SpokeLimitView, now: datetime) -> Condition:
    if item.spec is None:
        return _condition(item, ENFORCED, False, "Unreadable", f"not readable: {item.problem}", now)
    if item.scope is None:
        text = f"this release of the operator does not enforce the scope {item.spec.scope!r}"
        return _condition(item, ENFORCED, False, "UnknownScope", text, now)
    return _condition(item, ENFORCED, True, ENFORCED, "", now)


def _paused(item: SpokeLimitView, now: datetime) -> Condition:
    pause = pause_of(item, now) if item.scope else None
    if pause is not None:
        text = pause_sentence(pause.source, pause.by, pause.note, pause.since, pause.until)
        return _condition(item, PAUSED, True, PAUSED, text, now)
    ended = item.spec is not None and item.spec.paused is not None and item.scope is not None
    return _condition(item, PAUSED, False, "PauseEnded" if ended else "NotPaused", "", now)


def _condition(item: SpokeLimitView, kind: str, is_true: bool, reason: str, message: str, now: datetime) -> Condition:
    status = "True" if is_true else "False"
    old = next((known for known in item.status.conditions if known.type == kind), None)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:_MESSAGE_LIMIT],
        last_transition_time=old.last_transition_time if old and old.status == status else now,
    )
