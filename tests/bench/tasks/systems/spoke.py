"""This library's tasks: without a session, kept in the dispatcher's memory; and with one, in the outbox."""

from __future__ import annotations

import time

from pydantic import BaseModel
from sqlalchemy.orm import Session
from tests.bench.lib import jobs
from tests.bench.lib.client import by_threads

from spoke_jobs import TaskContext, close, configure, dispatch_task, task
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.settings import load_settings


class Work(BaseModel):
    """The payload."""

    number: int
    job_ms: int


@task("bench", payload=Work)
def bench(ctx: TaskContext, work: Work) -> None:
    """The task."""
    jobs.run(work.number, work.job_ms)


class BufferClient:
    """Dispatches without a session."""

    def __init__(self, at_once: int) -> None:
        configure()

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        dispatch_task("bench", Work(number=number, job_ms=job_ms))
        return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """From one thread: calls don't wait for anything that others could use."""
        return by_threads(self.enqueue, numbers, job_ms, seconds, 1)

    def close(self) -> None:
        """Let go."""
        close()


class OutboxClient:
    """Each dispatch has a transaction of its own, by threads."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._engine = create_engine(load_settings().database_url.get_secret_value(), pool_size=at_once)
        configure()

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        with Session(self._engine) as session:
            dispatch_task("bench", Work(number=number, job_ms=job_ms), session=session)
            session.commit()
            return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return by_threads(self.enqueue, numbers, job_ms, seconds, self._at_once)


buffer_client = BufferClient
outbox_client = OutboxClient
