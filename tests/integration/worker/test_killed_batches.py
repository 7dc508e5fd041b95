"""A batch whose workers are killed again and again: the job that follows it is claimed once, after all others."""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack
from datetime import datetime

import pytest
from sqlalchemy import func, select
from tests.contract.worker import Site
from tests.integration.worker import must_hold_app
from tests.integration.worker.must_hold_app import effects
from tests.integration.worker.test_must_hold import results, signal_all, site

from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import JobData

__all__ = ["site"]


def dispatch_batch(site: Site, jobs: int, seconds: float) -> tuple[list[int], int]:
    """Return the ids of the batch's jobs, and of the job that follows."""
    followed = JobData("async_effect", 0.0, retry=must_hold_app.PATIENT)
    batch = site.runner.open_batch("march", followed)
    one = JobData("async_effect", seconds, batch_id=batch.id, retry=must_hold_app.PATIENT)
    ids = [job.id for job in site.runner.dispatch_jobs([one] * jobs)]
    site.runner.close_batch(batch.id)
    assert batch.then_id is not None
    return ids, batch.then_id


@pytest.mark.alone
@pytest.mark.parametrize(
    ("runs", "jobs", "workers", "seconds", "every"),
    [
        (1, 60, 2, 0.4, 1.5),
        pytest.param(50, 1000, 8, 0.25, 3.0, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
    ids=["short", "whole"],
)
def test_what_follows_a_batch_whose_workers_are_killed_runs_once_and_last(
    site: Site, runs: int, jobs: int, workers: int, seconds: float, every: float
) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "3"
    chance = random.Random(17)
    options = ("--concurrency", "4", "--batch", "4")
    kills = 0
    with ExitStack() as stack:
        living = [stack.enter_context(site.worker(*options)) for _ in range(workers)]
        for _ in range(runs):
            ids, follower = dispatch_batch(site, jobs, seconds)
            next_kill, kills_before = time.monotonic() + every, kills
            while follower not in results(site):
                if time.monotonic() >= next_kill and any(job in results(site) for job in ids):
                    victim = chance.randrange(workers)
                    signal_all(living[victim].pid, signal.SIGKILL)
                    living[victim].wait()
                    living[victim] = stack.enter_context(site.worker(*options))
                    next_kill = time.monotonic() + every
                    kills += 1
                assert time.monotonic() < next_kill + 300, site.described()
                time.sleep(0.05)
            site.wait(lambda follower=follower: site.row(follower).state.final)  # type: ignore[misc]
            assert kills > kills_before, "the batch ended before a worker was killed"
            everybody = [*ids, follower]
            assert results(site) == dict.fromkeys(everybody, 1)
            last_end = max(end for _, end in attempts(site, ids))
            assert all(claim >= last_end for claim, _ in attempts(site, [follower]))
            with site.engine.begin() as connection:
                connection.execute(effects.delete())
    with site.engine.connect() as connection:
        counts = connection.execute(select(job_request.c.state, func.count()).group_by(job_request.c.state))
        states = {state: count for state, count in counts}  # noqa: C416
        causes = set(connection.scalars(select(job_attempt.c.cause).distinct()))
    print(f"{runs} batches of {jobs} jobs on {workers} workers, {kills} of which were killed: {states}")
    assert states == {"succeeded": runs * (jobs + 1)}
    assert causes <= {"", "WorkerLost"}


def attempts(site: Site, jobs: list[int]) -> list[tuple[datetime, datetime]]:
    """When the jobs' attempts were claimed, and when they ended."""
    statement = select(job_attempt.c.claimed_at, job_attempt.c.finished_at).where(job_attempt.c.job_id.in_(jobs))
    with site.engine.connect() as connection:
        return [(claim, end) for claim, end in connection.execute(statement)]
