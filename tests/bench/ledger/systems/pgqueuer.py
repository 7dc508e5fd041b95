"""PgQueuer: PostgreSQL by asyncpg, an ``async def`` entrypoint, as many at once in one worker."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
import pgqueuer
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from tests.bench.lib import jobs
from tests.bench.lib.client import by_tasks


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    """What a worker is made of."""
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("bench")
    async def bench(job: Job) -> None:
        number, job_ms = (job.payload or b"").split()
        await jobs.run_async(int(number), int(job_ms))

    try:
        yield queuer
    finally:
        await connection.close()


class PgQueuerClient:
    """Enqueues on an event loop, uvloop's as its worker has it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._queries = self._runner.run(_open(at_once))

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(self._enqueue(number, job_ms))

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(by_tasks(self._enqueue, numbers, job_ms, seconds, self._at_once))

    async def _enqueue(self, number: int, job_ms: int) -> float:
        await self._queries.enqueue("bench", b"%d %d" % (number, job_ms))
        return time.monotonic()


async def _open(at_once: int) -> Queries:
    pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE"], min_size=at_once, max_size=at_once)
    return Queries(AsyncpgPoolDriver(pool))


def main() -> None:
    """As `pgq run` does, by the function that it offers for this: under these requirements the command itself fails."""
    at_once = int(sys.argv[1])
    # It wants room for two batches among the jobs that run at once.
    uvloop.run(pgqueuer.run(worker, max_concurrent_tasks=at_once, batch_size=max(1, at_once // 2)))


if __name__ == "__main__":
    main()
