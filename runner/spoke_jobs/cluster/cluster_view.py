"""What a person was shown of the cluster: frozen, and without a client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spoke_jobs.contract.spokejob import SpokeJob

SILENCE = timedelta(seconds=150)
"""The operator gives a sign of life each minute where somebody waits; after two that didn't come it is missed."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the operator said of the namespace."""

    at: datetime
    turns: tuple[str, ...] = ()
    """The SpokeJobs that wait for a place, in the order of their turns: the first of them."""
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What was found. Everything may be missing: who asks may have no access, and objects come and go."""

    name: str
    """The SpokeJob's name, whether it is there or not."""
    namespace: str = ""
    spokejob: SpokeJob | None = None
    holder: SpokeJob | None = None
    """The one that has the queue that it waits for."""
    published: Published | None = None
    pulls: int = 0
    """How often its image was asked for; 0 where that isn't known."""
    problem: str = ""
    """Why the cluster could not be asked."""
    odd: tuple[str, ...] = ()
    """What was there and could not be read."""


def read_published(data: Mapping[str, Any] | None) -> Published | None:
    """A ConfigMap's data; None if it isn't there, or is not what an operator writes."""
    try:
        assert data is not None
        state = json.loads(data["state"])
        turns = tuple(str(name) for name in state.get("turns", ()))
        return Published(datetime.fromisoformat(data["time"]), turns, int(state.get("waiting", 0)))
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        return None
