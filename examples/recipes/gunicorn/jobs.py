"""The application's jobs and tasks. SPOKE_APP names this module. Each stores a line with its process id."""

from __future__ import annotations

import os

from database import Line, sessions

from spoke_jobs import JobContext, TaskContext, job, task


@job("write")
def write(ctx: JobContext, payload: str) -> None:
    """Store a line in the transaction of the job's success."""
    with ctx.complete() as session:
        session.add(Line(text=f"job {payload}", process=os.getpid()))


@task("note")
def note(_ctx: TaskContext, payload: str) -> None:
    """Store a line."""
    with sessions.begin() as session:
        session.add(Line(text=f"task {payload}", process=os.getpid()))
