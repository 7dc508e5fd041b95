"""An application with a registry of its own, whose jobs write lines and whose tasks leave words."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, select

from spoke_jobs import JobContext, JobData, Registry, RetryPolicy, TaskContext, dispatch_job, dispatch_task

metadata = MetaData()
line = Table("line", metadata, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
registry = Registry()
ran: list[str] = []


class Words(BaseModel):
    """A payload."""

    text: str


@registry.job("write", payload=Words)
def write(ctx: JobContext, payload: Words) -> None:
    """Write a line in the transaction of the job's success."""
    with ctx.complete({"wrote": payload.text}) as session:
        session.execute(line.insert().values(text=payload.text))


@registry.job("fail", retry=RetryPolicy(backoff_seconds=3600))
def fail(ctx: JobContext, payload: Any) -> None:
    """Write what is lost, then raise."""
    ctx.session.execute(line.insert().values(text="never"))
    raise ValueError(f"attempt {ctx.attempt}")


@registry.job("chain")
def chain(ctx: JobContext, payload: Any) -> None:
    """Dispatch in the transaction of the job's success."""
    with ctx.complete() as session:
        dispatch_job(JobData("write", Words(text="dispatched by a job")), session=session)
        dispatch_task("note", Words(text="dispatched by a job"), session=session)


@registry.task("note", payload=Words)
def note(ctx: TaskContext, payload: Words) -> None:
    """Leave a word."""
    ran.append(payload.text)


@registry.task("trip")
def trip(ctx: TaskContext, payload: Any) -> None:
    """Raise."""
    raise LookupError("as it was told to")


@registry.job("awrite", payload=Words)
async def awrite(ctx: JobContext, payload: Words) -> str:
    """Write a line from an event loop, by the session's uncommitted rest; waiting in between."""
    ctx.session.execute(line.insert().values(text=payload.text))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        ran.append("timed out")
    ctx.session.execute(line.insert().values(text=f"{payload.text} again"))
    return payload.text


@registry.task("anote", payload=Words)
async def anote(ctx: TaskContext, payload: Words) -> None:
    """Leave a word, from an event loop."""
    await asyncio.sleep(0)
    ran.append(payload.text)


def lines(connection: Connection) -> list[str]:
    """What jobs have written, as the connection sees it."""
    return list(connection.scalars(select(line.c.text).order_by(line.c.id)))
