"""An import whose process is killed at a random moment, and then tried again, loads exactly the file's rows.

It begins at most one batch again for each kill: the log counts the rows that each attempt begins to load.

A few runs here; ``make test-long`` has fifty on each database.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import BOTH, make_campaign
from tests.waiting import eventually

from spoke_jobs import JobRequest, JobState
from spoke_jobs.ledger.sql_ledger import SqlLedger
from texting import database
from texting.actions import upload_contacts
from texting.importing import BATCH_ROWS
from texting.models import Contact
from texting.sample import Sample, make_sample

ROWS = 6_000


@BOTH
@pytest.mark.parametrize("runs", [pytest.param(2, id="2"), pytest.param(50, id="50", marks=pytest.mark.long)])
@pytest.mark.timeout(1200)
def test_killed_and_retried_it_imports_nobody_twice(
    worker: subprocess.Popen[bytes], sessions: sessionmaker[Session], tmp_path: Path, runs: int
) -> None:
    ledger = database.ledger()
    undisturbed = seconds_of(import_once(ledger, sessions, make_sample(ROWS, seed=0), lambda _job: None))
    longest, jobs = 3 * undisturbed, list[int]()
    kills: Counter[int] = Counter()
    chance = random.Random(20260101)
    seed = 0
    while sum(kills.values()) < runs:
        seed += 1
        moment = chance.uniform(0, longest)
        killed: list[int] = []

        def kill(job: JobRequest, moment: float = moment, killed: list[int] = killed) -> None:
            eventually(lambda: state_of(ledger, job) is not JobState.WAITING)
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
            longest *= 1.1  # it follows the speed of the machine, which may change
        else:
            longest *= 0.95
        jobs.append(job.id)
        assert job.result == sample.summary
        with sessions() as session:
            loaded = list(session.scalars(select(Contact.cell).where(Contact.campaign_id == job.campaign_id)))
        assert len(loaded) == len(set(loaded))
        assert set(loaded) == {contact.cell for contact in sample.contacts}
        assert seed < 4 * runs + 10, "hardly any kill came while the import ran"

    # The rest of a job's output is in the log once the child begins its next job.
    import_once(ledger, sessions, make_sample(ROWS, seed + 1), lambda _job: None)
    log = (tmp_path / "worker.log").read_text()
    for job_id in jobs:
        begun = rows_begun(log, job_id)
        assert ROWS <= sum(begun) <= ROWS + BATCH_ROWS * kills[job_id], begun


def rows_begun(log: str, job_id: int) -> list[int]:
    """The number of rows in each batch that the job's attempts have begun to load."""
    return [int(rows) for rows in re.findall(rf"\[job {job_id} attempt \d+\] loading (\d+) rows", log)]


def import_once(
    ledger: SqlLedger, sessions: sessionmaker[Session], sample: Sample, meanwhile: Callable[[JobRequest], None]
) -> JobRequest:
    """Import a file into a campaign of its own; the row at its end."""
    campaign = make_campaign(sessions, opted_out=sample.opted_out)
    with sessions.begin() as session:
        _, job = upload_contacts(session, session.merge(campaign), sample.data)
    meanwhile(job)
    eventually(lambda: state_of(ledger, job).final)
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


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
