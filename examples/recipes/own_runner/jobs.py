"""The application's jobs and tasks, which know of no runner."""

from __future__ import annotations

import os
from pathlib import Path

from spoke_jobs import JobContext, TaskContext, job, task


@job("measure")
def measure(ctx: JobContext, payload: list[int]) -> dict[str, int]:
    """Say the sum, and who has added."""
    if ctx.attempt == 1 and not payload:
        raise ValueError("nothing to measure")
    return {"sum": sum(payload), "process": os.getpid()}


@task("note")
def note(_ctx: TaskContext, payload: str) -> None:
    """Leave a file."""
    Path(payload).write_text("noted")
