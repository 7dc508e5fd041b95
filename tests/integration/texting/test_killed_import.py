"""An import whose process is killed at a random moment, and then tried again, loads exactly the file's rows.

A few runs here; ``make test-long`` has fifty on each database.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.killing import children_of, seconds_of, state_of, wait_for
from tests.integration.texting.making import make_campaign

from spoke_jobs import JobRequest, JobState
from spoke_jobs.ledger.sql_ledger import SqlLedger
from texting import database
from texting.actions import upload_contacts
from texting.models import Contact
from texting.sample import Sample, make_sample

ROWS = 6_000


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
