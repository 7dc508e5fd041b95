"""A job whose process is killed at random moments: the effect of each step is committed once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest
from sqlalchemy import func, select
from tests.contract.worker import Site
from tests.integration.worker.must_hold_app import STEP_SECONDS, effects
from tests.integration.worker.test_must_hold import site

from spoke_jobs.model import JobState

__all__ = ["site"]


@pytest.mark.parametrize(
    ("job_type", "kills"),
    [
        pytest.param("in_steps", 2, id="short"),
        pytest.param("async_in_steps", 100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_each_step_of_a_killed_job_has_its_effect_once(site: Site, job_type: str, kills: int) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # the supervisor notices each kill itself
    chance = random.Random(20)
    job_id = site.dispatch(job_type, str(site.folder))
    with site.worker("--processes", "1", "--concurrency", "1"):
        for number in range(1, kills + 1):
            done = steps(site)
            site.wait(lambda number=number: len(processes(site)) == number)  # type: ignore[misc]
            site.wait(lambda done=done: steps(site) > done)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 4 * STEP_SECONDS))  # the random moment itself
            os.kill(processes(site)[-1], signal.SIGKILL)
        site.wait(lambda: len(processes(site)) == kills + 1)
        before = steps(site)
        site.wait(lambda: steps(site) > before)
        (site.folder / "enough").touch()
        result = site.wait_for(job_id, JobState.SUCCEEDED).result
    assert site.causes(job_id) == [*["Killed"] * kills, ""]
    with site.engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(effects.c.job_id, effects.c.attempt))]
    assert Counter(rows) == Counter(enumerate(result)), "each step once, by the attempt that its result names"
    # The server may have stored the last commit of a killed process after its death, and the next had no time for one.
    assert len(set(result)) > kills / 2, "most attempts have done steps"


def steps(site: Site) -> int:
    """How many effects are committed."""
    with site.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(effects)) or 0


def processes(site: Site) -> list[int]:
    """The processes of the attempts so far."""
    notes = site.folder / "notes"
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [int(line.split()[-1]) for line in lines]
