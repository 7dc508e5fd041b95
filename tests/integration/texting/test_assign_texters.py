"""Contacts divided among texters: as asked for, with what is written left alone, after any number of runs the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import BOTH, add_contacts, cell_of, holders, make_campaign

from spoke_jobs import JobRequest, JobState
from spoke_jobs.runners.memory_runner import MemoryRunner
from texting import assigning
from texting.actions import request_assignment
from texting.assigning import Request, TexterShare
from texting.models import Assigning, Assignment, Campaign, Contact, Message, OptOut
from texting.sending import write_messages

CONTACTS = 40


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assigning, "BATCH_ROWS", 7)


@pytest.fixture
def campaign(sessions: sessionmaker[Session]) -> Campaign:
    campaign = make_campaign(sessions)
    add_contacts(sessions, campaign, CONTACTS)
    return campaign


@pytest.fixture(autouse=True)
def nothing_left_open(sessions: sessionmaker[Session]) -> Iterator[None]:
    """Every session of a job is closed: a connection that it kept would keep a lock."""
    yield
    assert sessions.kw["bind"].pool.checkedout() == 0


def shares(**wanted: int | None) -> list[TexterShare]:
    return [TexterShare(texter=texter, wanted=count) for texter, count in wanted.items()]


def capped(**maximum: int | None) -> list[TexterShare]:
    return [TexterShare(texter=texter, maximum=count) for texter, count in maximum.items()]


def assign(
    sessions: sessionmaker[Session],
    runner: MemoryRunner,
    campaign: Campaign,
    texters: list[TexterShare],
    *,
    dynamic: bool = False,
) -> JobRequest:
    with sessions.begin() as session:
        request_assignment(session, campaign, texters, dynamic=dynamic)
    return runner.drain()[-1]


def write(sessions: sessionmaker[Session], campaign: Campaign, texter: str, count: int) -> None:
    with sessions.begin() as session:
        assert len(write_messages(session, campaign.id, texter, count)) == count


def texters_of(sessions: sessionmaker[Session], campaign: Campaign) -> dict[str, int | None]:
    with sessions() as session:
        found = session.scalars(select(Assignment).where(Assignment.campaign_id == campaign.id).order_by(Assignment.id))
        return {assignment.texter: assignment.max_contacts for assignment in found}


def test_contacts_go_in_their_order_to_texters_in_theirs(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    job = assign(sessions, runner, campaign, shares(Tess=10, Bo=None, Cy=None))
    assert (job.state, job.status) == (JobState.SUCCEEDED, 100)
    assert job.result == {"texters": 3, "assigned": 40, "written": 0, "unassigned": 0}
    assert holders(sessions, campaign) == 10 * ["Tess"] + 15 * ["Bo"] + 15 * ["Cy"]
    with sessions() as session:
        assert session.get_one(Campaign, campaign.id).assigning == Assigning.FIXED


def test_what_nobody_may_have_stays_nobodys_and_a_shortage_falls_on_the_last(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    job = assign(sessions, runner, campaign, [TexterShare(texter="Tess", wanted=10, maximum=5), *capped(Bo=20)])
    assert job.result == {"texters": 2, "assigned": 25, "written": 0, "unassigned": 15}
    assert holders(sessions, campaign) == 5 * ["Tess"] + 20 * ["Bo"] + 15 * [None]

    job = assign(sessions, runner, campaign, shares(Bo=30, Tess=30))
    assert job.result == {"texters": 2, "assigned": 40, "written": 0, "unassigned": 0}
    assert Counter(holders(sessions, campaign)) == {"Bo": 30, "Tess": 10}


def test_whom_a_texter_has_written_to_stays_with_them_and_the_others_are_divided_anew(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    assign(sessions, runner, campaign, shares(Tess=20, Bo=20))
    write(sessions, campaign, "Tess", 5)
    write(sessions, campaign, "Bo", 3)

    job = assign(sessions, runner, campaign, shares(Bo=10, Cy=None))
    assert job.result == {"texters": 2, "assigned": 35, "written": 3, "unassigned": 0}
    assert holders(sessions, campaign) == 5 * ["Tess"] + 15 * ["Cy"] + 10 * ["Bo"] + 10 * ["Cy"]

    again = assign(sessions, runner, campaign, shares(Bo=10, Cy=None))
    assert again.result == job.result
    # Who is no longer listed may take no more, and is forgotten if nothing ties them to a contact.
    assert texters_of(sessions, campaign) == {"Tess": 0, "Bo": None, "Cy": None}
    assign(sessions, runner, campaign, shares(Bo=None))
    assert texters_of(sessions, campaign) == {"Tess": 0, "Bo": None}


def test_a_wanted_number_counts_written_contacts_so_that_writing_between_two_runs_changes_nothing(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    assign(sessions, runner, campaign, shares(Tess=10, Bo=12))
    before = holders(sessions, campaign)
    write(sessions, campaign, "Tess", 10)
    write(sessions, campaign, "Bo", 4)
    job = assign(sessions, runner, campaign, shares(Tess=10, Bo=12))
    assert holders(sessions, campaign) == before
    assert job.result == {"texters": 2, "assigned": 22, "written": 14, "unassigned": 18}


def test_with_dynamic_assignment_nobody_gets_contacts_and_what_exceeds_a_maximum_goes_back(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    assign(sessions, runner, campaign, shares(Tess=20, Bo=10, Cy=5))
    write(sessions, campaign, "Tess", 4)
    write(sessions, campaign, "Cy", 2)

    job = assign(sessions, runner, campaign, capped(Tess=6, Bo=None, Di=3), dynamic=True)
    assert job.result == {"texters": 3, "assigned": 16, "written": 4, "unassigned": 22}
    assert holders(sessions, campaign) == 6 * ["Tess"] + 14 * [None] + 10 * ["Bo"] + 2 * ["Cy"] + 8 * [None]
    assert texters_of(sessions, campaign) == {"Tess": 6, "Bo": None, "Di": 3, "Cy": 0}

    with sessions.begin() as session:
        assert len(write_messages(session, campaign.id, "Tess", 10)) == 2
        assert len(write_messages(session, campaign.id, "Di", 10)) == 3
        assert len(write_messages(session, campaign.id, "Cy", 10)) == 0


def test_who_has_opted_out_is_nobodys(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    assign(sessions, runner, campaign, shares(Tess=None))
    with sessions.begin() as session:
        session.add_all(OptOut(organization_id=campaign.organization_id, cell=cell_of(number)) for number in (0, 3))
    job = assign(sessions, runner, campaign, shares(Tess=None))
    assert job.result == {"texters": 1, "assigned": 38, "written": 0, "unassigned": 0}
    assert holders(sessions, campaign) == [None, "Tess", "Tess", None] + 36 * ["Tess"]


def test_other_campaigns_are_left_alone(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    other = make_campaign(sessions)
    add_contacts(sessions, other, 5)
    assign(sessions, runner, other, shares(Tess=3))
    assign(sessions, runner, campaign, shares(Tess=1))
    assert holders(sessions, other) == 3 * ["Tess"] + 2 * [None]
    assert holders(sessions, campaign) == ["Tess"] + 39 * [None]


@pytest.mark.parametrize(("calls_before", "committed"), [(0, True), (1, False), (4, True), (5, False)])
def test_an_attempt_that_breaks_off_is_followed_by_one_that_comes_to_the_same_end(
    sessions: sessionmaker[Session],
    runner: MemoryRunner,
    campaign: Campaign,
    monkeypatch: pytest.MonkeyPatch,
    calls_before: int,
    committed: bool,
) -> None:
    """Broken off in the middle of a transaction, and right after one, the one that begins and the last one included."""
    expected = the_end_without_a_break(sessions, runner, make_campaign(sessions))
    prepare(sessions, runner, campaign)
    calls = 0

    def breaks_off(whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(session: Session, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            done = whole(session, *arguments)
            if calls == calls_before + 1:
                # The last transaction counts only with the job's success: a commit of its own would be no death of it.
                if committed and calls_before < 5:
                    session.commit()
                raise ConnectionError("the machine is gone")
            return done

        return call

    monkeypatch.setattr(assigning, "begin", breaks_off(assigning.begin))
    monkeypatch.setattr(assigning, "move", breaks_off(assigning.move))
    job = assign(sessions, runner, campaign, shares(Bo=8, Cy=None, Di=None))
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert (job.result, holders(sessions, campaign)) == expected


def prepare(sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign) -> None:
    """Contacts that are held, written to, opted out."""
    assign(sessions, runner, campaign, shares(Tess=12, Bo=20))
    write(sessions, campaign, "Tess", 3)
    write(sessions, campaign, "Bo", 2)
    with sessions.begin() as session:
        session.add_all(OptOut(organization_id=campaign.organization_id, cell=cell_of(number)) for number in (5, 39))


def the_end_without_a_break(
    sessions: sessionmaker[Session], runner: MemoryRunner, twin: Campaign
) -> tuple[Any, list[str | None]]:
    add_contacts(sessions, twin, CONTACTS)
    prepare(sessions, runner, twin)
    job = assign(sessions, runner, twin, shares(Bo=8, Cy=None, Di=None))
    assert job.attempt == 1
    return job.result, holders(sessions, twin)


@BOTH
def test_texters_who_write_between_two_batches_are_counted_in(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned for another texter and has been written to meanwhile stays, and somebody else's makes up."""
    assign(sessions, runner, campaign, shares(Tess=30, Bo=0))
    whole, writes = assigning.move, iter([True])

    def move(session: Session, campaign_id: int, moves: Any) -> None:
        if next(writes, False):
            session.rollback()
            with sessions.begin() as other:  # the one that the first batch is about to give to Bo
                contacts = other.scalars(select(Contact).order_by(Contact.id)).all()
                other.add(Message(contact_id=contacts[29].id, text="Hi"))
        whole(session, campaign_id, moves)

    monkeypatch.setattr(assigning, "move", move)
    job = assign(sessions, runner, campaign, shares(Tess=5, Bo=20))
    assert job.result == {"texters": 2, "assigned": 25, "written": 1, "unassigned": 15}
    held = holders(sessions, campaign)
    assert held[29] == "Tess"
    assert Counter(held) == {"Tess": 5, "Bo": 20, None: 15}


def test_says_how_far_it_has_come(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "spoke_jobs.JobContext.progress", lambda _, percent, message="": said.append((percent, message))
    )
    assign(sessions, runner, campaign, shares(Tess=None))
    assert said[0] == (17, "7 of 40 contacts")
    assert said[-1] == (99, "40 of 40 contacts")
    assert said == sorted(said)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"texters": [{"texter": "A"}, {"texter": "B"}, {"texter": "A"}]}, "listed more than once: A"),
        ({"texters": [{"texter": "A", "wanted": 1}], "dynamic": True}, "A: with dynamic assignment"),
        ({"texters": [{"texter": " "}]}, "texter"),
        ({"texters": [{"texter": "A", "wanted": -1}]}, "wanted"),
        ({"texters": [{"texter": "A", "maximum": 2**40}]}, "maximum"),
        ({"texters": [{"texter": "A", "max": 3}]}, "max"),
        ({}, "texters"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Request.model_validate(given)
