"""taskiq: Redis streams, which acknowledge, an ``async def`` task, two workers."""

from __future__ import annotations

import asyncio
import os
import time

from taskiq_redis import RedisStreamBroker
from tests.bench.lib import jobs
from tests.bench.lib.client import by_tasks

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS"])


@broker.task
async def bench(number: int, job_ms: int) -> None:
    """The task."""
    await jobs.run_async(number, job_ms)


class TaskiqClient:
    """Sends on an event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._runner = asyncio.Runner()
        self._runner.run(broker.startup())

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(_send(number, job_ms))

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(by_tasks(_send, numbers, job_ms, seconds, self._at_once))


async def _send(number: int, job_ms: int) -> float:
    await bench.kiq(number, job_ms)
    return time.monotonic()
