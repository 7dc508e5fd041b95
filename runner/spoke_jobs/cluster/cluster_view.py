"""What the commands read in the cluster. Frozen; this module does not import the Kubernetes client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spoke_jobs.contract.spokejob import SpokeJob

SILENCE = timedelta(seconds=150)
"""The operator writes at least once a minute to a namespace where a job waits. After two missed writes it is down."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the operator published about the namespace."""

    at: datetime
    turns: tuple[str, ...] = ()
    """The first SpokeJobs that wait for admission, in the order of their turns."""
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What was read. Anything may be missing: the account may lack access, or the object does not exist."""

    name: str
    """The SpokeJob's name, whether it exists or not."""
    namespace: str = ""
    spokejob: SpokeJob | None = None
    holder: SpokeJob | None = None
    """The SpokeJob that holds the queue's lock, if the job waits for that."""
    published: Published | None = None
    pulls: int = 0
    """How often the kubelet tried to pull its image; 0 if unknown."""
    problem: str = ""
    """Why the cluster could not be read."""
    unreadable: tuple[str, ...] = ()
    """The objects that exist and could not be read."""


def read_published(data: Mapping[str, Any] | None) -> Published | None:
    """Parse the data of the operator's ConfigMap; None if it doesn't exist or is malformed."""
    try:
        assert data is not None
        state = json.loads(data["state"])
        turns = tuple(str(name) for name in state.get("turns", ()))
        return Published(datetime.fromisoformat(data["time"]), turns, int(state.get("waiting", 0)))
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        return None
