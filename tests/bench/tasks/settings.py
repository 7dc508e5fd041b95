"""What `make bench-tasks` can be told by the environment beside what every run can, and its own defaults of that.

The rest is in :mod:`tests.bench.lib.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.lib import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(settings.Settings):
    """See the fields."""

    minutes: float = 11
    rate: float = 50
    latency_seconds: float = 2.5
    tasks: int = 8000
    """TASKS: how many are dispatched at most before the worker starts."""
    dispatch_seconds: float = 1.5
    """DISPATCH_SECONDS: how long dispatching goes on at most."""
    call_seconds: float = 6
    """CALL_SECONDS: for how long calls of `dispatch_task` are timed."""
