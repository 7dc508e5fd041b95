"""Dramatiq: Redis, an actor, two processes of threads. Without a result backend, which is its default."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tests.bench.lib import jobs
from tests.bench.lib.client import by_threads

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def bench(number: int, job_ms: int) -> None:
    """The task."""
    jobs.run(number, job_ms)


class DramatiqClient:
    """Sends by threads."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        bench.send(number, job_ms)
        return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return by_threads(self.enqueue, numbers, job_ms, seconds, self._at_once)
