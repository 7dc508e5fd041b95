"""An application for the runners' contract: its jobs and tasks leave a line in a table, so that a test sees what ran.

It stands alone, so that the image of the cluster's tests can hold it too.
"""

from __future__ import annotations

import asyncio
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, insert

from spoke_jobs import Discard, JobContext, Registry, RetryPolicy, TaskContext
from spoke_jobs.ledger.engine import create_engine

registry = Registry()
metadata = MetaData()
effect = Table("effect", metadata, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))

EAGER = RetryPolicy(backoff_seconds=0)


class Line(BaseModel):
    """What to leave behind."""

    text: str
    ratio: float = 0.0


@lru_cache
def engine(url: str) -> Engine:
    """The application's own engine."""
    return create_engine(url)


def leave(text: str) -> None:
    """Commit a line."""
    url = os.environ.get("SPOKE_DATABASE_URL") or Path(os.environ["SPOKE_DATABASE_URL_FILE"]).read_text()
    with engine(url).begin() as connection:
        connection.execute(insert(effect).values(text=text))


@registry.job("record", payload=Line)
def record(ctx: JobContext, payload: Line) -> None:
    """Leave a line in the transaction of the job's success."""
    ctx.progress(50, "half-way")
    with ctx.complete({"said": payload.text}) as session:
        session.execute(insert(effect).values(text=payload.text))


@registry.job("arecord", payload=Line)
async def arecord(ctx: JobContext, payload: Line) -> dict[str, str]:
    """The same, on an event loop, by the session's uncommitted rest."""
    ctx.session.execute(insert(effect).values(text=payload.text))
    return {"said": payload.text}


@registry.job("bare")
def bare(ctx: JobContext) -> int:
    """A job without a payload."""
    return ctx.attempt


@registry.job("abare")
async def abare(ctx: JobContext) -> int:
    """The same, on an event loop."""
    return ctx.attempt


@registry.task("bare_note")
def bare_note(_ctx: TaskContext) -> None:
    """A task without a payload."""
    leave("noted")


@registry.job("plain")
def plain(_ctx: JobContext, payload: Any) -> Any:
    """Give the payload back."""
    return payload


@registry.job("fail", retry=EAGER)
def fail(ctx: JobContext, _payload: Any) -> None:
    """Leave a line that counts the attempt, then raise; what the session holds is lost."""
    leave(f"attempt {ctx.attempt}")
    ctx.session.execute(insert(effect).values(text="never"))
    raise ValueError("as it was told to")


@registry.job("recover", retry=EAGER)
def recover(ctx: JobContext, _payload: Any) -> str:
    """Succeed at the second attempt."""
    if ctx.attempt == 1:
        raise RuntimeError("the first attempt fails")
    return "recovered"


@registry.job("resume", retry=EAGER)
def resume(ctx: JobContext, _payload: Any) -> list[int | None]:
    """Leave four lines in two batches. The first attempt fails in the second batch."""
    start = ctx.checkpoint
    for number in range(start or 0, 4):
        ctx.session.execute(insert(effect).values(text=f"line {number} by attempt {ctx.attempt}"))
        ctx.save(number + 1)
        if number % 2:
            ctx.session.commit()
        elif number and ctx.attempt == 1:
            raise RuntimeError("in the middle of a batch")
    return [start, ctx.checkpoint]


@registry.job("resume_by_hand")
def resume_by_hand(ctx: JobContext, _payload: Any) -> int:
    """Fail for good at the beginning, and succeed from the checkpoint."""
    if ctx.checkpoint is None:
        ctx.save(ctx.job.run)
        ctx.session.commit()
        raise Discard("somebody has to look at it")
    return int(ctx.checkpoint)


@registry.job("step", retry=EAGER)
def step(ctx: JobContext, _payload: Any) -> list[Any]:
    """Do two steps. The first attempt fails in the second one."""

    def order() -> int:
        ctx.session.execute(insert(effect).values(text=f"ordered by attempt {ctx.attempt}"))
        return ctx.attempt

    def charge() -> dict[str, int]:
        ctx.session.execute(insert(effect).values(text=f"charged by attempt {ctx.attempt}"))
        if ctx.attempt == 1:
            raise RuntimeError("in the middle of a step")
        return {"attempt": ctx.attempt}

    return [ctx.step("order", order), ctx.step("charge", charge)]


@registry.job("astep", retry=EAGER)
async def astep(ctx: JobContext, _payload: Any) -> list[Any]:
    """The same, on an event loop; the first step uses no session."""

    async def order() -> int:
        await asyncio.sleep(0)
        return ctx.attempt

    async def charge() -> dict[str, int]:
        await asyncio.sleep(0)
        ctx.session.execute(insert(effect).values(text=f"charged by attempt {ctx.attempt}"))
        if ctx.attempt == 1:
            raise RuntimeError("in the middle of a step")
        return {"attempt": ctx.attempt}

    return [await ctx.step("order", order), await ctx.step("charge", charge)]


@registry.task("note", payload=Line)
def note(_ctx: TaskContext, payload: Line) -> None:
    """Leave a line."""
    leave(payload.text)


@registry.task("anote", payload=Line)
async def anote(_ctx: TaskContext, payload: Line) -> None:
    """Leave a line, from an event loop."""
    leave(payload.text)


@registry.task("snote", payload=Line)
def snote(ctx: TaskContext, payload: Line) -> None:
    """Leave a line by the session's uncommitted rest."""
    ctx.session.execute(insert(effect).values(text=payload.text))


@registry.task("asnote", payload=Line)
async def asnote(ctx: TaskContext, payload: Line) -> None:
    """The same, from an event loop."""
    ctx.session.execute(insert(effect).values(text=payload.text))


@registry.task("sfail", payload=Line, attempts=1)
def sfail(ctx: TaskContext, payload: Line) -> None:
    """Commit a line, write another, raise."""
    ctx.session.execute(insert(effect).values(text=payload.text))
    ctx.session.commit()
    ctx.session.execute(insert(effect).values(text="never"))
    raise ValueError("as it was told to")


@registry.task("tell", payload=Line)
def tell(ctx: TaskContext, payload: Line) -> None:
    """Leave what the context says."""
    assert ctx.remaining_seconds is None or 0 < ctx.remaining_seconds <= 300
    assert len(ctx.id) >= 32
    leave(f"attempt {ctx.attempt}")
