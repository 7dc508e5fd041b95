"""This library: `legacy` runner, PostgreSQL. Once with an ``async def`` job, once with a ``def`` one."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.bench.lib import jobs
from tests.bench.lib.client import by_threads

from spoke_jobs import JobContext, JobData, configure, dispatch_job, job


class Work(BaseModel):
    """The payload."""

    number: int
    job_ms: int


@job("bench_async", payload=Work)
async def bench_async(ctx: JobContext, work: Work) -> None:
    """Runs together with others on an event loop."""
    await jobs.run_async(work.number, work.job_ms)


@job("bench_def", payload=Work)
def bench_def(ctx: JobContext, work: Work) -> None:
    """Has a process to itself while it runs."""
    jobs.run(work.number, work.job_ms)


class SpokeClient:
    """Bursts dispatch alone; a paced job shares its caller's transaction, so that the commit is the caller's to see."""

    def __init__(self, job_type: str, at_once: int) -> None:
        self._job_type = job_type
        self._at_once = at_once
        self._engine = create_engine(os.environ["SPOKE_DATABASE_URL"])
        configure()

    def enqueue(self, number: int, job_ms: int) -> float:
        """See :class:`tests.bench.lib.client.Client`."""
        with Session(self._engine) as session:
            dispatch_job(self._job(number, job_ms), session=session)
            session.commit()
            return time.monotonic()

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """See :class:`tests.bench.lib.client.Client`."""
        return by_threads(self._dispatch, numbers, job_ms, seconds, self._at_once)

    def _dispatch(self, number: int, job_ms: int) -> None:
        dispatch_job(self._job(number, job_ms))

    def _job(self, number: int, job_ms: int) -> JobData:
        return JobData(self._job_type, Work(number=number, job_ms=job_ms))


def async_client(at_once: int) -> SpokeClient:
    """For the ``async def`` job."""
    return SpokeClient("bench_async", at_once)


def def_client(at_once: int) -> SpokeClient:
    """For the ``def`` job."""
    return SpokeClient("bench_def", at_once)
