"""Pauses and rates, as the jobs themselves and what they call see them: on PostgreSQL, with real workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.contract.worker import Site
from tests.integration.worker import steered_app
from tests.integration.worker.test_must_hold import finish, notes
from tests.waiting import stays

from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobData, JobState

ALL = parse_scope("all")
KINDS = ("brief", "async_brief")
LATE_SECONDS = 1.0
"""For a machine that is busy. Usually the last job starts some milliseconds after the commit."""


@pytest.fixture
def site(postgres_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(postgres_ledger_url, tmp_path)
    made.runner.registry = steered_app.registry
    made._environment |= {
        "SPOKE_APP": "tests.integration.worker.steered_app:registry",
        # So that a worker learns of nothing by polling, and no lease lapses.
        "SPOKE_POLL_SECONDS": "60",
        "SPOKE_LEASE_SECONDS": "120",
    }
    made.promised = True  # what a job waits for comes sooner than a poll would bring it
    yield made
    made.close()


def dispatch(site: Site, job_type: str, count: int, **payload: Any) -> list[int]:
    data = [JobData(job_type, {"folder": str(site.folder)} | payload) for _ in range(count)]
    return [job.id for job in site.runner.dispatch_jobs(data)]


def starts(site: Site, job_type: str) -> list[float]:
    return [when for _, key, _, when in notes(site.folder) if key == job_type]


def paused(site: Site, scope: Any) -> tuple[float, float]:
    """Pause a scope. Return two times of the database's clock, before and after the commit."""
    now = select(func.clock_timestamp())
    with site.engine.connect() as connection:
        before = connection.scalar(now)
        connection.rollback()
        site.runner.ledger.limits.pause(scope, "the test")
        after = connection.scalar(now)
    assert before is not None
    assert after is not None
    return before.timestamp(), after.timestamp()


def held_ahead(site: Site) -> int:
    """How many jobs are claimed and have not started."""
    with site.engine.connect() as connection:
        claimed = connection.scalar(select(func.count()).where(job_attempt.c.state == "running")) or 0
        done = connection.scalar(select(func.count()).where(job_request.c.state == "succeeded")) or 0
    return claimed + done - len(notes(site.folder))


@pytest.mark.alone  # a worker claims ahead only while its jobs are short
@pytest.mark.parametrize("job_type", KINDS)
def test_what_a_worker_has_claimed_ahead_does_not_start_once_it_is_paused(site: Site, job_type: str) -> None:
    gate = site.folder / "gate"
    with site.worker("--processes", "1", "--concurrency", "2", "--batch", "2"):
        finish(site, dispatch(site, job_type, 100))  # short ones, so that the worker claims ahead
        jobs = dispatch(site, job_type, 6, gate=str(gate))
        running = 2 if job_type == "async_brief" else 1  # the others have no place, and can't be about to start
        site.wait(lambda: len(starts(site, job_type)) == 100 + running and held_ahead(site) > 0)
        begun = len(starts(site, job_type))
        paused(site, parse_scope(f"type:{job_type}"))
        # A job of the other kind, in another process: the worker learns of it after the pause.
        finish(site, dispatch(site, next(kind for kind in KINDS if kind != job_type), 1))
        gate.touch()
        site.wait(lambda: sum(site.row(job).state is JobState.SUCCEEDED for job in jobs) == begun - 100)
        site.wait(lambda: not any(site.row(job).state is JobState.RUNNING for job in jobs))
        assert len(starts(site, job_type)) == begun
        assert {site.row(job).attempt for job in jobs} == {0, 1}
        site.runner.ledger.limits.resume(parse_scope(f"type:{job_type}"))
        finish(site, jobs)
    assert {len(site.causes(job)) for job in jobs} == {1}, "what was given back is no attempt"


def test_after_the_commit_of_a_pause_no_job_of_a_burst_starts_and_all_end_after_the_resume(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(site.worker("--processes", "2", "--concurrency", "8", "--batch", "8"))
        jobs = [job for kind in KINDS for job in dispatch(site, kind, 150, seconds=0.02)]
        site.wait(lambda: all(len(starts(site, kind)) > 40 for kind in KINDS))
        _, after = paused(site, ALL)
        site.wait(lambda: held_ahead(site) == 0)
        begun = [when for kind in KINDS for when in starts(site, kind)]
        late = [when - after for when in begun if when > after]
        print(f"\n{len(late)} of {len(begun)} jobs started after the commit, by {max(late, default=0) * 1000:.0f} ms")
        assert len(begun) < 300, "the pause came too late to hold anything"
        assert max(late, default=0) < LATE_SECONDS
        assert stays(lambda: sum(len(starts(site, kind)) for kind in KINDS) == len(begun), 1.0)
        site.runner.ledger.limits.resume(ALL)
        finish(site, jobs)
    assert sum(len(starts(site, kind)) for kind in KINDS) == 300
