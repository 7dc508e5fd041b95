"""The job that every application has without declaring it: it does nothing, so that a set-up can be tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spoke_jobs.execution.context import JobContext
    from spoke_jobs.registry import Registry

CHECK = "spoke_jobs.check"
"""Its type."""


def check(ctx: JobContext, payload: Any) -> dict[str, Any]:
    """Say that it runs, and give the payload back."""
    ctx.progress(50, "it runs")
    return {"checked": payload}


def declare(registry: Registry) -> None:
    """Put it into an application's registry, unless it is there."""
    if CHECK not in registry.jobs:
        registry.job(CHECK, retention_seconds=3600)(check)
