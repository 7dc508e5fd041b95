"""Which waiting SpokeJobs may have their Job now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from .model import Key


@dataclass(frozen=True, slots=True)
class Candidate:
    """A SpokeJob that could start."""

    key: Key
    priority: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Limits:
    """How many may run; None: as many as there are."""

    running: int | None = None


def admit(waiting: Collection[Candidate], running: Collection[Key], limits: Limits) -> tuple[Key, ...]:
    """Those that may start now, first come first: higher priority, then older, then by name."""
    order = sorted(waiting, key=lambda item: (-item.priority, item.created_at, item.key))
    if limits.running is None:
        return tuple(item.key for item in order)
    free = max(0, limits.running - len(running))
    return tuple(item.key for item in order[:free])
