"""Jobs that write down when they ran, for whoever looks for what must not overlap."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, insert

from spoke_jobs import JobContext, Registry, RetryPolicy
from spoke_jobs.contract.causes import CauseClass

registry = Registry()
metadata = MetaData()
effects = Table(
    "effects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
)
"""A row for each result: no key keeps a job from leaving two."""
PATIENT = RetryPolicy(backoff_seconds=0, budget={CauseClass.INFRASTRUCTURE: 11})


def note(folder: str, word: str, key: Any, attempt: int) -> None:
    """On the machine's clock, which the database has as well."""
    with (Path(folder) / "notes").open("a") as file:
        file.write(f"{word} {key} {attempt} {time.time()} {os.getpid()}\n")


@contextmanager
def noted(folder: str, key: Any, attempt: int) -> Iterator[None]:
    note(folder, "in", key, attempt)
    yield
    note(folder, "out", key, attempt)


@registry.job("hold")
def hold(ctx: JobContext, payload: dict[str, Any]) -> None:
    """In a queue, for a moment."""
    with noted(payload["folder"], ctx.job.queue_name, ctx.job.id):
        time.sleep(payload["seconds"])


def leave_effect(ctx: JobContext) -> None:
    ctx.session.execute(insert(effects).values(job_id=ctx.job.id, attempt=ctx.attempt))


@registry.job("effect", retry=PATIENT)
def effect(ctx: JobContext, payload: float) -> int:
    time.sleep(payload)
    leave_effect(ctx)
    return ctx.attempt


@registry.job("async_effect", retry=PATIENT)
async def async_effect(ctx: JobContext, payload: float) -> int:
    await asyncio.sleep(payload)
    leave_effect(ctx)
    return ctx.attempt


STEP_SECONDS = 0.02
KILLED_OFTEN = RetryPolicy(backoff_seconds=0, budget=dict.fromkeys(CauseClass, 1_000))


def _step(ctx: JobContext, number: int) -> dict[str, int]:
    """Write a row, which only the commit that stores the step's result keeps."""
    time.sleep(STEP_SECONDS / 2)
    ctx.session.execute(insert(effects).values(job_id=number, attempt=ctx.attempt))
    time.sleep(STEP_SECONDS / 2)
    return {"step": number, "attempt": ctx.attempt}


@registry.job("in_steps", retry=KILLED_OFTEN)
def in_steps(ctx: JobContext, payload: str) -> list[int]:
    """Go from step to step until a file is there; which attempt did each."""
    note(payload, "in", ctx.job.id, ctx.attempt)
    done: list[int] = []
    while not (Path(payload) / "enough").exists():
        number = len(done)
        result = ctx.step(f"step-{number}", lambda number=number: _step(ctx, number))  # type: ignore[misc]
        assert result["step"] == number
        done.append(result["attempt"])
    return done


@registry.job("async_in_steps", retry=KILLED_OFTEN)
async def async_in_steps(ctx: JobContext, payload: str) -> list[int]:
    note(payload, "in", ctx.job.id, ctx.attempt)
    done: list[int] = []
    while not (Path(payload) / "enough").exists():
        number = len(done)

        async def step(number: int = number) -> dict[str, int]:
            await asyncio.sleep(0)
            return _step(ctx, number)

        result = await ctx.step(f"step-{number}", step)
        assert result["step"] == number
        done.append(result["attempt"])
    return done


@registry.job("write_and_wait", retry=PATIENT)
def write_and_wait(ctx: JobContext, payload: str) -> int:
    """The first attempt has written, and commits once the file is there."""
    leave_effect(ctx)
    ctx.progress(1, f"pid {os.getpid()}")
    while ctx.attempt == 1 and not Path(payload).exists():
        time.sleep(0.005)
    ctx.session.commit()
    return ctx.attempt


@registry.job("async_write_and_wait", retry=PATIENT)
async def async_write_and_wait(ctx: JobContext, payload: str) -> int:
    leave_effect(ctx)
    ctx.progress(1, f"pid {os.getpid()}")
    while ctx.attempt == 1 and not Path(payload).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.005)
    ctx.session.commit()
    return ctx.attempt


@registry.job("beat", retry=PATIENT)
def beat(ctx: JobContext, payload: dict[str, Any]) -> int:
    """Say every now and then that it runs, until a file is there."""
    while not (Path(payload["folder"]) / "enough").exists():
        note(payload["folder"], "beat", ctx.job.id, ctx.attempt)
        time.sleep(0.01)
    return ctx.attempt


@registry.job("async_beat", retry=PATIENT)
async def async_beat(ctx: JobContext, payload: dict[str, Any]) -> int:
    while not (Path(payload["folder"]) / "enough").exists():
        note(payload["folder"], "beat", ctx.job.id, ctx.attempt)
        await asyncio.sleep(0.01)
    return ctx.attempt
