"""The state of a namespace that the leader publishes: limits, counts and the order of turns.

`spoke-jobs why` reads it. Its form is in :mod:`spoke_jobs.contract.operator_state`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.limit_scopes import NAMED, ScopeKind
from spoke_jobs.contract.operator_state import (
    OperatorState,
    PublishedBound,
    PublishedHold,
    PublishedPause,
    PublishedPool,
    PublishedRate,
    PublishedStandby,
    Running,
)
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, counts_of
from spoke_jobs_operator.core.limits.limits import Limits, NamespaceLimits, named
from spoke_jobs_operator.core.limits.start_rates import StartRates
from spoke_jobs_operator.core.objects.api_objects import Key

from .job_counts import is_waiting, waits_for

SHOWN_TURNS = 200
SHOWN_COUNTS = 100
"""How many queues and organizations are published: the busiest ones."""


def report(
    namespace: str,
    limits: Limits,
    usage: Usage,
    turns: Sequence[Candidate],
    unfinished: Iterable[SpokeJob],
    has_place: Callable[[Key], bool] = lambda _key: False,
    standby: Sequence[PublishedStandby] = (),
    standby_pods: Sequence[PublishedPool] = (),
) -> OperatorState:
    """Return the namespace's state.

    :param has_place: whether a SpokeJob is admitted or has an attempt, even if its status does not show that yet.
    :param standby: the PodTemplates of the namespace that lack standby pods.
    :param standby_pods: how many standby pods each of its PodTemplates has.
    """
    mine = [item for item in unfinished if item.namespace == namespace]
    waiting = [item for item in mine if is_waiting(item)]
    starting = [item for item in waiting if item.status.open_attempt or has_place(Key(namespace, item.name))]
    rules = limits.of(namespace)
    return OperatorState(
        limits=limits.settings,
        namespace_limits=_bounds(rules),
        rates=_rates(rules, usage.rates),
        paused=tuple(_pause(scope, pause) for scope, pause in islice(rules.pauses.items(), SHOWN_COUNTS)),
        running=Running(all=usage.total, namespace=usage.in_namespace.get(namespace, 0)),
        queues=_busiest(usage, namespace, ScopeKind.QUEUE),
        organizations=_busiest(usage, namespace, ScopeKind.ORGANIZATION),
        waiting=len(waiting) - len(starting),
        starting=len(starting),
        holds=_holds(usage, namespace),
        standby=tuple(standby[:SHOWN_COUNTS]),
        standby_pods=tuple(standby_pods[:SHOWN_COUNTS]),
        reasons=dict(sorted(Counter(map(waits_for, waiting)).items())),
        turns=tuple(islice((item.key.name for item in turns if item.key.namespace == namespace), SHOWN_TURNS)),
    )


def _holds(usage: Usage, namespace: str) -> tuple[PublishedHold, ...]:
    return tuple(usage.holds.published(namespace)) if usage.holds is not None else ()


def _busiest(usage: Usage, namespace: str, kind: ScopeKind) -> dict[str, int]:
    return dict(counts_of(usage, namespace, kind).most_common(SHOWN_COUNTS))


def _bounds(rules: NamespaceLimits) -> dict[str, PublishedBound | int]:
    """Return the limits of the namespace, each with the object or setting that sets it."""
    bounds = {
        **{scope: bound for scope, bound in rules.bounds.items() if ":" not in scope},
        **{
            f"{kind}:{name}": bound
            for kind in NAMED
            for name, bound in islice(named(rules.bounds, kind).items(), SHOWN_COUNTS)
        },
        "maxUnfinished": rules.unfinished,
        "maxPriority": rules.max_priority,
        "defaultTimeoutSeconds": rules.default_timeout,
        "maxTimeoutSeconds": rules.max_timeout,
    }
    found: dict[str, PublishedBound | int] = {
        name: PublishedBound(value=bound.value, source=bound.source) for name, bound in bounds.items() if bound
    }
    return found if rules.weight == 1 else found | {"weight": rules.weight}


def _rates(rules: NamespaceLimits, rates: StartRates) -> tuple[PublishedRate, ...]:
    """Return the rates of the namespace, each with its scope and the SpokeLimit that sets it."""
    found = ((scope, bound) for scope, bounds in sorted(rules.rates.items()) for bound in bounds)
    return tuple(
        PublishedRate(scope=scope, rate=str(bound.rate), source=bound.source, tokens=rates.tokens(bound))
        for scope, bound in islice(found, SHOWN_COUNTS)
    )


def _pause(scope: str, pause: Pause) -> PublishedPause:
    return PublishedPause(
        scope=scope,
        source=pause.source,
        by=pause.by or None,
        note=pause.note or None,
        since=pause.since.isoformat() if pause.since else None,
        until=pause.until.isoformat() if pause.until else None,
    )
