"""The state of a namespace that the leader publishes: limits, counts and the order of turns.

`spoke-jobs why` reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime

from spoke_jobs.contract.spokejob import Outcome, SpokeJob

from .admit import Candidate, Limits, Usage
from .api_objects import Key
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

    :param has_place: whether a SpokeJob has a place, even if its status does not show that yet.
    """
    mine = [item for item in unfinished if item.namespace == namespace]
    waiting = [item for item in mine if item.status.outcome in (None, Outcome.WAITING)]
    starting = [item for item in waiting if open_attempt(item.status) or has_place(Key(namespace, item.name))]
    queues = Counter({key.queue: n for key, n in usage.in_queue.items() if key.namespace == namespace and key.queue})
    parties = {party.organization: n for party, n in usage.of_party.items() if party.namespace == namespace}
    organizations = Counter({str(name): n for name, n in parties.items() if name is not None})
    return {
        "limits": {name: value for name, value in asdict(limits).items() if value is not None},
        "running": {"all": usage.total, "namespace": usage.in_namespace.get(namespace, 0)},
        "queues": dict(queues.most_common(SHOWN_COUNTS)),
        "organizations": dict(organizations.most_common(SHOWN_COUNTS)),
        "waiting": len(waiting) - len(starting),
        "starting": len(starting),
        "reasons": dict(sorted(Counter(item.status.cause or "New" for item in waiting).items())),
        "turns": [item.key.name for item in turns if item.key.namespace == namespace][:SHOWN_TURNS],
    }


def as_data(state: dict[str, object], identity: str, now: datetime) -> dict[str, str]:
    """Return the ConfigMap's data."""
    return {"operator": identity, "time": now.isoformat(), "state": json.dumps(state, sort_keys=True)}
