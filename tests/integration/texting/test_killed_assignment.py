"""An assignment whose process is killed at a random moment, and then tried again, ends as one that nobody killed.

A few runs here; ``make test-long`` has fifty on each database.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.killing import children_of, seconds_of, state_of
from tests.integration.texting.making import BOTH, add_contacts, holders, make_campaign
from tests.waiting import eventually

from spoke_jobs import JobRequest, JobState
from spoke_jobs.ledger.sql_ledger import SqlLedger
from texting import database
from texting.actions import request_assignment
from texting.assigning import TexterShare
from texting.models import Assignment, Contact, Message

CONTACTS = 12_000
WRITTEN = 500
TEXTERS = [TexterShare(texter="Bo", wanted=3_000), *(TexterShare(texter=texter) for texter in ("Cy", "Di", "Ed"))]


@BOTH
@pytest.mark.parametrize("runs", [pytest.param(2, id="2"), pytest.param(50, id="50", marks=pytest.mark.long)])
@pytest.mark.timeout(1200)
def test_killed_and_retried_it_comes_to_the_same_assignment(
    worker: subprocess.Popen[bytes], sessions: sessionmaker[Session], runs: int
) -> None:
    ledger = database.ledger()
    undisturbed, expected = assign_once(ledger, sessions, lambda _job: None)
    assert undisturbed.result == {
        "texters": 4,
        "assigned": CONTACTS - WRITTEN,
        "written": 0,
        "unassigned": 0,
    }
    killed = tries = 0
    chance = random.Random(20260202)
    while killed < runs:
        tries += 1
        moment = chance.uniform(0, seconds_of(undisturbed))

        def kill(job: JobRequest, moment: float = moment) -> None:
            eventually(lambda: state_of(ledger, job) is not JobState.WAITING)
            time.sleep(moment)  # the random moment itself
            if state_of(ledger, job) is JobState.RUNNING and (children := children_of(worker.pid)):
                os.kill(children[0], signal.SIGKILL)

        job, held = assign_once(ledger, sessions, kill)
        attempts = ledger.attempts(job.id)
        # It may have recorded its success just before the signal came: then there was nothing to try again.
        if len(attempts) > 1:
            assert [attempt.cause for attempt in attempts] == ["Killed", ""]
            killed += 1
        assert job.result == undisturbed.result
        assert held == expected
        assert tries < 4 * runs + 10, "hardly any kill came while the assignment ran"


def assign_once(
    ledger: SqlLedger, sessions: sessionmaker[Session], meanwhile: Callable[[JobRequest], None]
) -> tuple[JobRequest, list[str | None]]:
    """Divide a campaign of its own, held and partly written to by somebody who isn't listed; who holds whom then."""
    campaign = make_campaign(sessions)
    add_contacts(sessions, campaign, CONTACTS)
    with sessions.begin() as session:
        tess = Assignment(campaign_id=campaign.id, texter="Tess")
        session.add(tess)
        session.flush()
        contacts = session.scalars(select(Contact).where(Contact.campaign_id == campaign.id).order_by(Contact.id)).all()
        for contact in contacts[: 2 * WRITTEN]:
            contact.assignment_id = tess.id
        session.add_all(Message(contact_id=contact.id, text="Hi") for contact in contacts[:WRITTEN])
    with sessions.begin() as session:
        job = request_assignment(session, campaign, TEXTERS)
    meanwhile(job)
    eventually(lambda: state_of(ledger, job).final)
    row = ledger.get(job.id)
    assert row is not None
    assert row.state is JobState.SUCCEEDED, row
    return row, holders(sessions, campaign)
