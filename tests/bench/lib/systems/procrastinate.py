"""procrastinate: PostgreSQL by psycopg, an ``async def`` task, as many at once in one worker."""

from __future__ import annotations

import asyncio
import os
import time

from procrastinate import App, PsycopgConnector
from tests.bench.lib import jobs
from tests.bench.lib.client import by_tasks

_CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"], max_size=_CONCURRENCY + 2))


@app.task(name="bench")
async def bench(number: int, job_ms: int) -> None:
    """The task."""
    await jobs.run_async(number, job_ms)


class ProcrastinateClient:
    """Defers on an event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._runner = asyncio.Runner()
        self._runner.run(_open())

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(_defer(number, job_ms))

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(by_tasks(_defer, numbers, job_ms, seconds, self._at_once))


async def _open() -> None:
    await app.open_async()


async def _defer(number: int, job_ms: int) -> float:
    await bench.defer_async(number=number, job_ms=job_ms)
    return time.monotonic()
