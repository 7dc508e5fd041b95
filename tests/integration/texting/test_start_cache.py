"""What texters' pages read is counted beforehand, and is never other than what is there."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import BOTH, add_contacts, cell_of, make_campaign
from tests.waiting import patient

from spoke_jobs.runners.memory_runner import MemoryRunner
from texting import assigning, start_cache
from texting.actions import opt_out, request_assignment, request_start, upload_contacts
from texting.assigning import TexterShare
from texting.models import Campaign, CampaignCache, OptOut
from texting.sending import NotATexterError, write_messages
from texting.start_cache import TexterNumbers, read_numbers, warm

TEXTERS = ("Tess", "Bo", "Cy")


@pytest.fixture
def campaign(sessions: sessionmaker[Session], runner: MemoryRunner) -> Campaign:
    """A started campaign with 12 contacts, 10 of them assigned, and the numbers counted."""
    campaign = make_campaign(sessions, opted_out=["+12125550199"])
    add_contacts(sessions, campaign, 12)
    with sessions.begin() as session:
        request_assignment(session, campaign, [TexterShare(texter=texter, wanted=5) for texter in TEXTERS[:2]])
        request_start(session, campaign)
    runner.drain()
    return campaign


def is_counted(sessions: sessionmaker[Session], campaign: Campaign) -> bool:
    with sessions() as session:
        return session.get(CampaignCache, campaign.id) is not None


def check(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    """What is read is what is there."""
    with sessions() as session:
        mine = session.get_one(Campaign, campaign.id)
        read = read_numbers(session, mine)
        assert replace(read, warmed_at=None) == start_cache.count(session, mine)


def test_the_numbers_are_those_of_the_campaign(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    with sessions() as session:
        numbers = read_numbers(session, session.get_one(Campaign, campaign.id))
    assert numbers.warmed_at is not None
    assert (numbers.script, numbers.fields, numbers.contacts) == ("Hi {firstName}!", (), 12)
    assert numbers.texters == {"Tess": TexterNumbers(5, 5), "Bo": TexterNumbers(5, 5)}
    check(sessions, campaign)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_done_in_whatever_order_what_is_read_is_what_is_there(
    sessions: sessionmaker[Session],
    runner: MemoryRunner,
    campaign: Campaign,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(assigning, "BATCH_ROWS", 3)
    chance = random.Random(seed)
    numbers = iter(range(100, 190))

    def send(session: Session) -> None:
        try:
            write_messages(session, campaign.id, chance.choice(TEXTERS), chance.randrange(1, 4))
        except NotATexterError:
            session.rollback()

    def opts_out(session: Session) -> None:
        cell = cell_of(chance.randrange(12))
        if not session.scalar(select(func.count()).where(OptOut.cell == cell)):
            opt_out(session, campaign.organization_id, cell)

    def assign(session: Session) -> None:
        dynamic = chance.random() < 0.5
        texters = chance.sample(TEXTERS, chance.randrange(1, 4))
        limit = "maximum" if dynamic else "wanted"
        shares = [
            TexterShare.model_validate({"texter": texter, limit: chance.choice([None, 3, 6])}) for texter in texters
        ]
        request_assignment(session, campaign, shares, dynamic=dynamic)

    def upload(session: Session) -> None:
        line = f"A,B,2125550{next(numbers)},{chance.random()}"
        upload_contacts(session, campaign, f"first,last,cell,column {chance.randrange(3)}\n{line}\n".encode())

    actions: list[Callable[[Session], None]] = [send, send, send, opts_out, assign, upload]
    for _ in range(25):
        with sessions.begin() as session:
            chance.choice(actions)(session)
        check(sessions, campaign)
        if chance.random() < 0.7:
            runner.drain()
            check(sessions, campaign)
    runner.drain()
    check(sessions, campaign)
    assert is_counted(sessions, campaign), "after a change nobody has counted anew"


def test_sending_keeps_the_count_and_changes_it(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    """It is what happens all the time once a campaign has started."""
    with sessions.begin() as session:
        write_messages(session, campaign.id, "Tess", 2)
    assert is_counted(sessions, campaign)
    with sessions() as session:
        numbers = read_numbers(session, session.get_one(Campaign, campaign.id))
    assert numbers.texters["Tess"] == TexterNumbers(5, 3)


def test_counted_between_two_batches_of_an_assignment_it_doesnt_outlive_the_next(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = 0

    def between(_: object) -> None:
        nonlocal batches
        batches += 1
        check(sessions, campaign)
        warm(campaign.id, sessions)

    monkeypatch.setattr(assigning, "BATCH_ROWS", 2)
    monkeypatch.setattr("spoke_jobs.JobContext.raise_if_cancelled", between)
    with sessions.begin() as session:
        request_assignment(session, campaign, [TexterShare(texter="Cy")])
    runner.drain()
    assert batches == 6
    check(sessions, campaign)


@BOTH
def test_counting_at_the_moment_of_a_change_waits_for_it(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    """Or it would count what was, and write that down after the change has deleted the old count."""
    with sessions.begin() as session:
        opt_out(session, campaign.organization_id, cell_of(0))
        counting = threading.Thread(target=warm, args=(campaign.id, sessions))
        counting.start()
        counting.join(0.2)  # if it didn't wait it would be done
        assert counting.is_alive()
    counting.join(patient(30))
    assert is_counted(sessions, campaign)
    check(sessions, campaign)


def test_delivered_twice_or_before_the_start_it_does_no_harm(
    sessions: sessionmaker[Session], campaign: Campaign
) -> None:
    for _ in range(2):
        warm(campaign.id, sessions)
    check(sessions, campaign)
    waiting = make_campaign(sessions)
    warm(waiting.id, sessions)
    assert not is_counted(sessions, waiting)
    with pytest.raises(LookupError, match="no campaign 999"):
        warm(999, sessions)
