"""RQ: Redis, a plain function, a fork for each job; a pool of as many workers."""

from __future__ import annotations

import os
import time

from redis import Redis
from rq import Queue
from tests.bench.lib import jobs
from tests.bench.lib.client import by_threads


class RqClient:
    """Enqueues by threads."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS"]))

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        self._queue.enqueue(jobs.run, number, job_ms)
        return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return by_threads(self.enqueue, numbers, job_ms, seconds, self._at_once)
