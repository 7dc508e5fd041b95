"""The state of a namespace that the leader publishes: limits, counts and the order of turns.

`spoke-jobs why` reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice

from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.limit_scopes import NAMED, ScopeKind
from spoke_jobs.contract.spokejob import Outcome, SpokeJob

from .admit import Candidate, Usage, counts_of
from .api_objects import Key
from .limits import Limits, NamespaceLimits, named
from .start_rates import StartRates
from .status import open_attempt

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
) -> dict[str, object]:
    """Return the namespace's state as JSON values: names and numbers.

    :param has_place: whether a SpokeJob is admitted or has an attempt, even if its status does not show that yet.
    """
    mine = [item for item in unfinished if item.namespace == namespace]
    waiting = [item for item in mine if item.status.outcome in (None, Outcome.WAITING)]
    starting = [item for item in waiting if open_attempt(item.status) or has_place(Key(namespace, item.name))]
    queues = counts_of(usage, namespace, ScopeKind.QUEUE)
    organizations = counts_of(usage, namespace, ScopeKind.ORGANIZATION)
    return {
        "limits": limits.settings,
        "namespaceLimits": _bounds(limits.of(namespace)),
        "rates": _rates(limits.of(namespace), usage.rates),
        "paused": [_pause(scope, pause) for scope, pause in limits.of(namespace).pauses.items()][:SHOWN_COUNTS],
        "running": {"all": usage.total, "namespace": usage.in_namespace.get(namespace, 0)},
        "queues": dict(queues.most_common(SHOWN_COUNTS)),
        "organizations": dict(organizations.most_common(SHOWN_COUNTS)),
        "waiting": len(waiting) - len(starting),
        "starting": len(starting),
        "holds": usage.holds.published(namespace) if usage.holds is not None else [],
        "reasons": dict(sorted(Counter(item.status.cause or "New" for item in waiting).items())),
        "turns": [item.key.name for item in turns if item.key.namespace == namespace][:SHOWN_TURNS],
    }


def _bounds(rules: NamespaceLimits) -> dict[str, object]:
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
    found: dict[str, object] = {
        name: {"value": bound.value, "source": bound.source} for name, bound in bounds.items() if bound
    }
    return found if rules.weight == 1 else found | {"weight": rules.weight}


def _rates(rules: NamespaceLimits, rates: StartRates) -> list[dict[str, object]]:
    """Return the rates of the namespace, each with its scope and the SpokeLimit that sets it."""
    found = ((scope, bound) for scope, bounds in sorted(rules.rates.items()) for bound in bounds)
    return [
        {"scope": scope, "rate": str(bound.rate), "source": bound.source, "tokens": rates.tokens(bound)}
        for scope, bound in islice(found, SHOWN_COUNTS)
    ]


def _pause(scope: str, pause: Pause) -> dict[str, str]:
    found = {
        "scope": scope,
        "source": pause.source,
        "by": pause.by,
        "note": pause.note,
        "since": pause.since.isoformat() if pause.since else "",
        "until": pause.until.isoformat() if pause.until else "",
    }
    return {name: value for name, value in found.items() if value}


def as_data(state: dict[str, object], identity: str, now: datetime) -> dict[str, str]:
    """Return the data of the ConfigMap `spoke-operator-state`, in which the leader publishes the state."""
    return {"operator": identity, "time": now.isoformat(), "state": json.dumps(state, sort_keys=True)}
