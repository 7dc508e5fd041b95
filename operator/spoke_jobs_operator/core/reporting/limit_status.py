"""Decide the status of SpokeLimits: how many jobs they apply to, and whether they are enforced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from spoke_jobs.contract.condition import Condition
from spoke_jobs.contract.custom_resources.spokelimit import ENFORCED, PAUSED, SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import ScopeKind
from spoke_jobs.contract.wait_reasons import pause_sentence
from spoke_jobs_operator.core.admission.admit import Candidate, ScopeKey
from spoke_jobs_operator.core.limits.limits import pause_of
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView

_MESSAGE_LIMIT = 500


def count_waiting(waiting: Iterable[Candidate], named: Iterable[SpokeLimitView]) -> Counter[ScopeKey]:
    """Count the SpokeJobs that wait for a place, by scope.

    :param named: the SpokeLimits whose types and prefixes are counted. One type may have a hundred prefixes, so to
        count all of them could take more memory than there is.
    """
    counts: Counter[ScopeKey] = Counter()
    types = {
        ScopeKey(item.key.namespace, str(scope))
        for item in named
        if (scope := item.scope) is not None and scope.kind is ScopeKind.TYPE
    }
    for item in waiting:
        for kind, name, _ in item.subject.scopes():
            key = ScopeKey(item.key.namespace, name)
            if kind is not ScopeKind.TYPE or key in types:
                counts[key] += 1
    return counts


def status_of(
    item: SpokeLimitView,
    running: Counter[ScopeKey],
    waiting: Counter[ScopeKey],
    now: datetime,
    full_at: datetime | None = None,
) -> SpokeLimitStatus:
    """Return the status of a SpokeLimit. A condition keeps its time as long as its status stays the same.

    :param running: how many SpokeJobs have a place, by scope. Of `each-queue` and the like, of all of them.
    :param waiting: how many wait for one, likewise.
    :param full_at: when the bucket of its rate is full.
    """
    key = ScopeKey(item.key.namespace, str(item.scope))
    return SpokeLimitStatus(
        observed_generation=item.generation,
        running=running[key] if item.scope else None,
        waiting=waiting[key] if item.scope else None,
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
