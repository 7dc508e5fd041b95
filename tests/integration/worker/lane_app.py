"""The application of the tests of the lane `worker`."""

from __future__ import annotations

import os
import signal
import time

from spoke_jobs import Every, JobContext, job


@job("small", lane="worker")
def small(_ctx: JobContext) -> str:
    return "small"


@job("often", lane="worker", schedule=Every(seconds=3600))
def often(_ctx: JobContext) -> None: ...


@job("hungry", lane="worker")
def hungry(_ctx: JobContext) -> None:
    """Take more memory than the worker may give, and keep it."""
    taken = []
    while True:
        taken.append(b"x" * 2**24)
        time.sleep(0.02)


@job("long", lane="worker", worker_seconds=0.2)
def long(_ctx: JobContext) -> None:
    time.sleep(600)


@job("fatal", lane="worker")
def fatal(_ctx: JobContext) -> None:
    """End as the kernel ends a process that takes all memory."""
    os.kill(os.getpid(), signal.SIGKILL)
