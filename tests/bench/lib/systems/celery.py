"""Celery: Redis, a plain function, a pool of forked processes. Without a result backend, which is its default."""

from __future__ import annotations

import os
import time

from celery import Celery  # type: ignore[import-untyped]
from tests.bench.lib import jobs
from tests.bench.lib.client import by_threads

app = Celery("bench", broker=os.environ["BENCH_REDIS"])


@app.task(name="bench")  # type: ignore[untyped-decorator]
def bench(number: int, job_ms: int) -> None:
    """The task."""
    jobs.run(number, job_ms)


class CeleryClient:
    """Sends by threads."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        bench.delay(number, job_ms)
        return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return by_threads(self.enqueue, numbers, job_ms, seconds, self._at_once)
