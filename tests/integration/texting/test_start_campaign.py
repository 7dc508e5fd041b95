"""A campaign's start: once, whatever is repeated or breaks off, and refused with all that it lacks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import BOTH, add_contacts, cell_of, make_campaign

from spoke_jobs import JobRequest, JobState
from spoke_jobs.runners.memory_runner import MemoryRunner
from texting import jobs
from texting.actions import request_assignment, request_start, upload_contacts
from texting.assigning import TexterShare
from texting.models import Campaign, CampaignCache, OptOut, Upload


@pytest.fixture
def campaign(sessions: sessionmaker[Session]) -> Campaign:
    campaign = make_campaign(sessions)
    add_contacts(sessions, campaign, 3)
    return campaign


def start(sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign) -> JobRequest:
    with sessions.begin() as session:
        request_start(session, campaign)
    return runner.drain()[-1]


def started_at(sessions: sessionmaker[Session], campaign: Campaign) -> datetime | None:
    with sessions() as session:
        return session.get_one(Campaign, campaign.id).started_at


def counted(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(CampaignCache)) or 0


def test_it_starts_and_what_texters_read_is_counted(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    job = start(sessions, runner, campaign)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"contacts": 3, "texters": 0, "started": True})
    assert started_at(sessions, campaign) is not None
    assert [task.name for task in runner.tasks] == ["campaign_start_cache"]
    assert counted(sessions) == 1


def test_started_again_it_stays_as_it_is(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    start(sessions, runner, campaign)
    first = started_at(sessions, campaign)
    with sessions.begin() as session:  # no longer startable; but it isn't started
        session.get_one(Campaign, campaign.id).script = " "
    job = start(sessions, runner, campaign)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"contacts": 3, "texters": 0, "started": False})
    assert started_at(sessions, campaign) == first
    assert len(runner.tasks) == 1


@BOTH
def test_an_attempt_that_breaks_off_at_its_very_end_has_started_nothing(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, fails = jobs.count_again, iter([True])
    seen: list[Any] = []

    def breaks_off(session: Session, campaign_id: int) -> None:
        whole(session, campaign_id)
        if next(fails, False):
            session.flush()
            raise ConnectionError("the machine is gone")
        with sessions() as other:
            seen.append(len(runner.tasks))
            if other.get_bind().dialect.name == "postgresql":  # on SQLite it would wait for this transaction
                assert other.get_one(Campaign, campaign_id).started_at is None

    monkeypatch.setattr(jobs, "count_again", breaks_off)
    job = start(sessions, runner, campaign)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert seen == [0], "the task went without the commit"
    assert [task.name for task in runner.tasks] == ["campaign_start_cache"]
    assert started_at(sessions, campaign) is not None


def test_all_that_it_lacks_is_named_and_nothing_is_started(
    sessions: sessionmaker[Session], runner: MemoryRunner
) -> None:
    campaign = make_campaign(sessions, script="Hi {firstName}, is {Town} well?")
    with sessions.begin() as session:
        session.add(Upload(campaign_id=campaign.id, content=b"first,last,cell\n"))
        request_assignment(session, campaign, [])
    job = start(sessions, runner, campaign)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    for lack in ("{Town}", "upload 1", "contacts", "texters"):
        assert lack in job.result_message
    assert started_at(sessions, campaign) is None
    assert runner.tasks == []


def test_contacts_who_have_all_opted_out_are_none(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    with sessions.begin() as session:
        session.add_all(OptOut(organization_id=campaign.organization_id, cell=cell_of(number)) for number in range(3))
    job = start(sessions, runner, campaign)
    assert "contacts who haven't opted out" in job.result_message


def test_asked_for_together_import_assignment_and_start_follow_one_another(
    sessions: sessionmaker[Session], runner: MemoryRunner
) -> None:
    campaign = make_campaign(sessions, script="Hi {firstName} of {Town}")
    with sessions.begin() as session:
        upload_contacts(session, campaign, b"first,last,cell,Town\nA,B,2125550100,X\nC,D,2125550101,Y\n")
        request_assignment(session, campaign, [TexterShare(texter="Tess")])
        request_start(session, campaign)
    done = runner.drain()
    assert [job.state for job in done] == 3 * [JobState.SUCCEEDED]
    assert done[-1].result == {"contacts": 2, "texters": 1, "started": True}
