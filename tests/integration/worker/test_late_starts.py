"""Attempts that a worker would start too late after the token of their rate, on SQLite, with a real worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.contract.worker import Site, children_of
from tests.fullest_window import excess
from tests.integration.worker import steered_app
from tests.integration.worker.test_must_hold import finish
from tests.integration.worker.test_steering import dispatch, starts

from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.tables import job_attempt
from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope

RATE = Rate(2, 1, 1)
NOTE_SECONDS = 0.25
"""What a job takes to note its start, on a busy machine."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    migrate(made.engine)
    made.runner.registry = steered_app.registry
    made._environment |= {
        "SPOKE_APP": "tests.integration.worker.steered_app:registry",
        "SPOKE_LEASE_SECONDS": "120",  # no lease lapses while the children stand still
    }
    yield made
    made.close()


def claimed(site: Site) -> int:
    with site.engine.connect() as connection:
        return connection.scalar(select(func.count()).where(job_attempt.c.state == "running")) or 0


def test_what_was_claimed_while_the_children_stood_still_does_not_start_all_at_once(site: Site) -> None:
    """As on a machine that is so busy that they do not run for a while."""
    job_type = "async_brief"  # one event loop takes all of them; of `def` jobs, tests/unit/worker
    with site.worker("--processes", "4", "--concurrency", "4") as worker:
        finish(site, dispatch(site, job_type, 12))  # so that the children are ready
        before = len(starts(site, job_type))
        site.runner.ledger.limits.set(parse_scope(f"type:{job_type}"), lambda _old: Bounds(rate=RATE))
        frozen = children_of(worker.pid)
        for child in frozen:
            os.kill(child, signal.SIGSTOP)
        jobs = dispatch(site, job_type, 4)
        site.wait(lambda: claimed(site) == 4)
        for child in frozen:
            os.kill(child, signal.SIGCONT)
        finish(site, jobs)
    begun = sorted(starts(site, job_type)[before:])
    assert len(begun) == 4
    assert excess(begun, RATE, RATE.start_seconds + NOTE_SECONDS) <= 0, begun
    assert site.log.count("too late for the token of its rate") >= 3
    assert {site.row(job).attempt for job in jobs} == {1}, "what was given back is no attempt"
    assert {len(site.causes(job)) for job in jobs} == {1}
