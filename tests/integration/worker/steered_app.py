"""Jobs whose starts somebody counts: each first notes when it starts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.integration.worker.must_hold_app import note

from spoke_jobs import JobContext, Registry

registry = Registry()


@registry.job("brief")
def brief(ctx: JobContext, payload: dict[str, Any]) -> None:
    """Take a few milliseconds, or as long as a file is missing."""
    note(payload["folder"], "start", ctx.job.job_type, ctx.job.id)
    time.sleep(payload.get("seconds", 0))
    while "gate" in payload and not Path(payload["gate"]).exists():
        time.sleep(0.005)


@registry.job("async_brief")
async def async_brief(ctx: JobContext, payload: dict[str, Any]) -> None:
    note(payload["folder"], "start", ctx.job.job_type, ctx.job.id)
    await asyncio.sleep(payload.get("seconds", 0))
    while "gate" in payload and not Path(payload["gate"]).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.005)
