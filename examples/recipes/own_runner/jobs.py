"""The application's jobs and tasks. They do not depend on the runner."""

from __future__ import annotations

import os
from pathlib import Path

from spoke_jobs import JobContext, TaskContext, job, task


@job("measure")
def measure(ctx: JobContext, payload: list[int]) -> dict[str, int]:
    """Return the sum and the process id."""
    if ctx.attempt == 1 and not payload:
        raise ValueError("nothing to measure")
    return {"sum": sum(payload), "process": os.getpid()}


@task("note")
def note(_ctx: TaskContext, payload: str) -> None:
    """Write a file."""
    Path(payload).write_text("noted")
