"""Schedules for sync processes that are killed."""

from __future__ import annotations

from spoke_jobs import Every, Registry

NAMES = [f"every second {number}" for number in range(5)]
registry = Registry()
registry.job("noop")(lambda _ctx: None)
for name in NAMES:
    registry.schedule(name, "noop", Every(seconds=1, misfire="all"))
