"""An application with tasks that leave a trace: each run writes a line into the file that TRACE names."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spoke_jobs import Registry, TaskContext

registry = Registry()


class Numbered(BaseModel):
    """A payload with a model."""

    number: int


def trace(what: str) -> None:
    """One write of one line: whole, whatever kills the process next."""
    with Path(os.environ["TRACE"]).open("ab", buffering=0) as file:
        file.write(f"{what}\n".encode())


@registry.task("noop")
def noop(ctx: TaskContext, payload: Any) -> None:
    """Nothing."""


@registry.task("mark")
def mark(ctx: TaskContext, payload: Any) -> None:
    """Leave a trace of the payload."""
    trace(f"{payload}")


@registry.task("amark")
async def amark(ctx: TaskContext, payload: Any) -> None:
    """The same on the event loop."""
    await asyncio.sleep(0)
    trace(f"{payload}")


@registry.task("numbered", payload=Numbered)
def numbered(ctx: TaskContext, payload: Numbered) -> None:
    """Takes a model."""
    trace(f"{payload.number}")


@registry.task("nap")
def nap(ctx: TaskContext, payload: Any) -> None:
    """Leave a trace after a hundredth of a second."""
    time.sleep(0.01)
    trace(f"{payload}")


@registry.task("gated")
def gated(ctx: TaskContext, payload: str) -> None:
    """Say that it has begun, wait until the test opens the gate, say that it has ended."""
    trace(f"begin {payload}")
    while not _gate().exists():
        time.sleep(0.01)
    trace(f"end {payload}")


@registry.task("agated")
async def agated(ctx: TaskContext, payload: str) -> None:
    """The same on the event loop."""
    trace(f"begin {payload}")
    while not _gate().exists():  # noqa: ASYNC110  another process opens it
        await asyncio.sleep(0.01)
    trace(f"end {payload}")


def _gate() -> Path:
    return Path(os.environ["TRACE"]).with_name("gate")


@registry.task("raises")
def raises(ctx: TaskContext, payload: Any) -> None:
    """Fails at every attempt."""
    trace(f"attempt {ctx.attempt}")
    raise ValueError("secret payload value")


@registry.task("second_time_lucky")
async def second_time_lucky(ctx: TaskContext, payload: Any) -> None:
    """Fails once."""
    trace(f"attempt {ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("not yet")


@registry.task("exits")
def exits(ctx: TaskContext, payload: Any) -> None:
    """Tries to end the process."""
    sys.exit(3)


@registry.task("aexits")
async def aexits(ctx: TaskContext, payload: Any) -> None:
    """Tries to end the process, from the event loop."""
    sys.exit(3)


@registry.task("kills")
def kills(ctx: TaskContext, payload: Any) -> None:
    """End the whole replica."""
    trace("killing")
    os._exit(1)


def _fork() -> None:
    """The copy goes on as if it were the task."""
    if child := os.fork():
        os.waitpid(child, 0)
        trace("the copy has ended")


@registry.task("forks", timeout_seconds=20, attempts=1)
def forks(ctx: TaskContext, payload: Any) -> None:
    """Returns twice."""
    _fork()


@registry.task("aforks", timeout_seconds=20, attempts=1)
async def aforks(ctx: TaskContext, payload: Any) -> None:
    """The same on the event loop."""
    _fork()


@registry.task("hangs", timeout_seconds=0.3, attempts=1)
def hangs(ctx: TaskContext, payload: Any) -> None:
    """Never ends."""
    trace("hangs")
    threading.Event().wait()


@registry.task("child_exits")
async def child_exits(ctx: TaskContext, payload: Any) -> None:
    """Leave the loop with another task that ends the interpreter, as it thinks."""

    async def leave() -> None:
        sys.exit(3)

    await asyncio.wait([asyncio.create_task(leave())])


@registry.task("leaks")
def leaks(ctx: TaskContext, payload: Any) -> None:
    """Leaves threads behind that would keep a process from ending."""
    for _ in range(5):
        threading.Thread(target=threading.Event().wait).start()


@registry.task("recurses", attempts=1)
def recurses(ctx: TaskContext, payload: Any) -> None:
    """Has no end."""
    recurses(ctx, payload)
