"""oban-py: PostgreSQL by psycopg, an ``async def`` worker, as many at once in one process. It needs Python 3.12."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install_sql
from tests.bench.lib import jobs
from tests.bench.lib.client import by_tasks


@worker(queue="default")
class Bench:
    """The job."""

    async def process(self, job: Any) -> None:
        """Do what every system's job does."""
        await jobs.run_async(job.args["number"], job.args["job_ms"])


class ObanClient:
    """Enqueues on an event loop, uvloop's as its worker has it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._oban = self._runner.run(_open(at_once))

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(self._enqueue(number, job_ms))

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(by_tasks(self._enqueue, numbers, job_ms, seconds, self._at_once))

    async def _enqueue(self, number: int, job_ms: int) -> float:
        await self._oban.enqueue(Bench.new({"number": number, "job_ms": job_ms}))
        return time.monotonic()


async def _open(at_once: int) -> Oban:
    """Start it without queues: it then only enqueues, and notifies the worker."""
    pool = await Oban.create_pool(os.environ["BENCH_DATABASE"], min_size=at_once, max_size=at_once)
    return await Oban(pool=pool).start()


async def _install() -> None:
    pool = await Oban.create_pool(os.environ["BENCH_DATABASE"])
    async with pool.connection() as connection:
        await connection.execute(install_sql())  # type: ignore[call-overload]
    await pool.close()


if __name__ == "__main__":
    uvloop.run(_install())
