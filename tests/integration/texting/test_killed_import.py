"""An import whose process is killed at a random moment, and then tried again, loads exactly the file's rows.

A few runs here; ``make test-long`` has fifty on each database.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import make_campaign

from spoke_jobs import JobRequest, JobState, registry
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.runners.legacy import LegacyRunner
from spoke_jobs.settings import Settings
from texting import database
from texting.actions import upload_contacts
from texting.models import Contact
from texting.sample import Sample, make_sample

ROWS = 6_000
PATIENCE_SECONDS = 120.0


@pytest.fixture
def worker(
    texting_database_url: str, sessions: sessionmaker[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with one child, and the runner that dispatches to it."""
    runner = LegacyRunner(Settings(database_url=SecretStr(texting_database_url)), registry.default)
    monkeypatch.setattr("spoke_jobs.dispatch._runner", runner)
    environment = os.environ | {
        "SPOKE_DATABASE_URL": texting_database_url,
        "SPOKE_APP": "texting.jobs",
        "SPOKE_POLL_SECONDS": "0.05",
    }
    command = [sys.executable, "-m", "spoke_jobs", "worker", "--processes", "1", "--grace", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
    yield process
    process.terminate()
    process.wait(30)
    runner.close()


@pytest.mark.parametrize("runs", [pytest.param(3, id="3"), pytest.param(50, id="50", marks=pytest.mark.long)])
@pytest.mark.timeout(1200)
def test_killed_and_retried_it_imports_nobody_twice(
    worker: subprocess.Popen[bytes], sessions: sessionmaker[Session], runs: int
) -> None:
    ledger = database.ledger()
    undisturbed = seconds_of(import_once(ledger, sessions, make_sample(ROWS, seed=0), lambda _job: None))
    kills: Counter[int] = Counter()
    chance = random.Random(20260101)
    seed = 0
    while sum(kills.values()) < runs:
        seed += 1
        moment = chance.uniform(0, undisturbed)
        killed: list[int] = []

        def kill(job: JobRequest, moment: float = moment, killed: list[int] = killed) -> None:
            wait_for(lambda: state_of(ledger, job) is not JobState.WAITING)
            time.sleep(moment)  # the random moment itself
            if state_of(ledger, job) is JobState.RUNNING and (children := children_of(worker.pid)):
                os.kill(children[0], signal.SIGKILL)
                killed.append(children[0])

        sample = make_sample(ROWS, seed)
        job = import_once(ledger, sessions, sample, kill)
        attempts = ledger.attempts(job.id)
        # It may have recorded its success just before the signal came: then there was nothing to try again.
        if killed and len(attempts) > 1:
            assert [attempt.cause for attempt in attempts] == ["Killed", ""]
            kills[job.id] += 1
        assert job.result == sample.summary
        with sessions() as session:
            loaded = list(session.scalars(select(Contact.cell).where(Contact.campaign_id == job.campaign_id)))
        assert len(loaded) == len(set(loaded))
        assert set(loaded) == {contact.cell for contact in sample.contacts}
        assert seed < 4 * runs + 10, "hardly any kill came while the import ran"


def import_once(
    ledger: SqlLedger, sessions: sessionmaker[Session], sample: Sample, meanwhile: Callable[[JobRequest], None]
) -> JobRequest:
    """Import a file into a campaign of its own; the row at its end."""
    campaign = make_campaign(sessions, opted_out=sample.opted_out)
    with sessions.begin() as session:
        _, job = upload_contacts(session, session.merge(campaign), sample.data)
    meanwhile(job)
    wait_for(lambda: state_of(ledger, job).final)
    row = ledger.get(job.id)
    assert row is not None
    assert row.state is JobState.SUCCEEDED, row
    return row


def seconds_of(job: JobRequest) -> float:
    assert job.started_at is not None
    assert job.finished_at is not None
    return (job.finished_at - job.started_at).total_seconds()


def state_of(ledger: SqlLedger, job: JobRequest) -> JobState:
    row = ledger.get(job.id)
    assert row is not None
    return row.state


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
