"""Tasks whose effects are in ``ctx.session``, for the outbox's tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sqlalchemy import insert
from tests.contract.app import Line, effect
from tests.integration.tasks.support.tasks_app import trace

from spoke_jobs import Registry, TaskContext

registry = Registry()


@registry.task("once", payload=Line)
def once(ctx: TaskContext, payload: Line) -> None:
    """Leave a line in the transaction of the task's end."""
    ctx.session.execute(insert(effect).values(text=payload.text))
    time.sleep(0.02)


@registry.task("held", payload=Line)
def held(ctx: TaskContext, payload: Line) -> None:
    """Leave a line once the test's gate is open."""
    trace(f"begun {payload.text}")
    ctx.session.execute(insert(effect).values(text=payload.text))
    while not Path(os.environ["TRACE"]).with_name("gate").exists():
        time.sleep(0.01)


@registry.task("kills", payload=Line)
def kills(ctx: TaskContext, payload: Line) -> None:
    """End the whole replica, when it has had a while."""
    trace("killing")
    time.sleep(0.05)
    os._exit(1)


@registry.task("fails", payload=Line, attempts=2, backoff_seconds=0.01)
def fails(ctx: TaskContext, payload: Line) -> None:
    """Write, and raise."""
    trace(f"attempt {ctx.attempt}")
    ctx.session.execute(insert(effect).values(text=payload.text))
    raise ValueError("as it was told to")
