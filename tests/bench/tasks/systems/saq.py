"""SAQ: Redis, an ``async def`` function, as many at once in one worker."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from saq import Queue
from tests.bench.lib import jobs
from tests.bench.lib.client import by_tasks

queue = Queue.from_url(os.environ["BENCH_REDIS"])


async def bench(_context: Any, *, number: int, job_ms: int) -> None:
    """The task."""
    await jobs.run_async(number, job_ms)


settings = {"queue": queue, "functions": [bench], "concurrency": int(os.environ["BENCH_CONCURRENCY"])}


class SaqClient:
    """Enqueues on an event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._runner = asyncio.Runner()
        self._runner.run(queue.connect())

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(_enqueue(number, job_ms))

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return self._runner.run(by_tasks(_enqueue, numbers, job_ms, seconds, self._at_once))


async def _enqueue(number: int, job_ms: int) -> float:
    await queue.enqueue("bench", number=number, job_ms=job_ms)
    return time.monotonic()
