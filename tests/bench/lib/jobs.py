"""What every system's job does: mark its begin, sleep as told, mark its end.

A *gate* waits until as many gates have begun as jobs can run at once: then the worker is there in full.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from pathlib import Path

from tests.bench.lib.marks import Marks

GATE = -1
"""Instead of a duration: the job is a gate. Gates have the lowest numbers."""
GATE_SECONDS = 30.0
"""No gate waits longer; the measurement then says that it failed."""
_LOOK_SECONDS = 0.005


@functools.cache
def marks() -> Marks:
    """The file that the run names, opened once for each process."""
    return Marks(Path(os.environ["BENCH_MARKS"]))


def gates() -> range:
    """The numbers of the gates."""
    return range(int(os.environ["BENCH_CONCURRENCY"]))


def run(number: int, job_ms: int) -> None:
    """The job of systems that run plain functions."""
    marks().begin(number)
    if job_ms == GATE:
        give_up_at = time.monotonic() + GATE_SECONDS
        while len(marks().begins(gates())) < len(gates()) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_SECONDS)
    elif job_ms:
        time.sleep(job_ms / 1000)
    marks().end(number)


async def run_async(number: int, job_ms: int) -> None:
    """The job of systems that run coroutines."""
    marks().begin(number)
    if job_ms == GATE:
        give_up_at = time.monotonic() + GATE_SECONDS
        # other processes' gates set no event of ours
        while len(marks().begins(gates())) < len(gates()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
    elif job_ms:
        await asyncio.sleep(job_ms / 1000)
    marks().end(number)
