"""The import, whole: what it loads, what it says, and that any number of tries come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tests.integration.texting.making import make_campaign

from spoke_jobs import JobRequest, JobState
from spoke_jobs.runners.memory_runner import MemoryRunner
from texting import importing, jobs
from texting.actions import upload_contacts
from texting.models import Campaign, Contact, OptOut, Upload, utc_now
from texting.sample import Sample, make_sample


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample(1_500, seed=3)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing.batches, "__defaults__", (200,))


def import_file(sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, data: bytes) -> JobRequest:
    with sessions.begin() as session:
        upload_contacts(session, campaign, data)
    return runner.drain()[-1]


def loaded(sessions: sessionmaker[Session]) -> set[tuple[str, ...]]:
    with sessions() as session:
        rows = session.scalars(select(Contact)).all()
    kept = {
        (row.first_name, row.last_name, row.cell, row.zip, row.external_id, *row.custom_fields.values()) for row in rows
    }
    assert len(kept) == len(rows)
    return kept


def truth(sample: Sample) -> set[tuple[str, ...]]:
    return {
        (each.first_name, each.last_name, each.cell, each.zip, each.external_id, *each.custom_fields)
        for each in sample.contacts
    }


def test_loads_the_file_and_says_what_became_of_each_row(
    sessions: sessionmaker[Session], runner: MemoryRunner, sample: Sample
) -> None:
    campaign = make_campaign(sessions, opted_out=sample.opted_out)
    job = import_file(sessions, runner, campaign, sample.data)

    assert (job.state, job.result) == (JobState.SUCCEEDED, sample.summary)
    assert loaded(sessions) == truth(sample)
    with sessions() as session:
        upload = session.scalars(select(Upload)).one()
    assert upload.summary == sample.summary
    assert upload.custom_fields == ["Home phone", "note", "note (2)", "Polling Place"]


def test_importing_the_same_file_again_loads_nobody(
    sessions: sessionmaker[Session], runner: MemoryRunner, sample: Sample
) -> None:
    campaign = make_campaign(sessions, opted_out=sample.opted_out)
    import_file(sessions, runner, campaign, sample.data)
    again = import_file(sessions, runner, campaign, sample.data)

    expected = sample.summary | {"loaded": 0, "repeated": sample.summary["loaded"] + sample.summary["repeated"]}
    assert again.result == expected
    assert loaded(sessions) == truth(sample)


def test_the_same_number_may_stand_in_another_campaign(sessions: sessionmaker[Session], runner: MemoryRunner) -> None:
    data = b"first,last,cell\nA,B,2125550100\n"
    for _ in range(2):
        job = import_file(sessions, runner, make_campaign(sessions), data)
        assert job.result["loaded"] == 1


@pytest.mark.parametrize(("batches_before", "committed"), [(0, True), (1, False), (5, True)])
def test_an_attempt_that_breaks_off_is_followed_by_one_that_loads_the_rest_and_counts_right(
    sessions: sessionmaker[Session],
    runner: MemoryRunner,
    sample: Sample,
    monkeypatch: pytest.MonkeyPatch,
    batches_before: int,
    committed: bool,
) -> None:
    """Broken off in the middle of a transaction, and right after one: nobody is lost or doubled."""
    whole = jobs.load_rows
    calls = 0

    def breaks_off(session: Session, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        whole(session, *arguments)
        if calls == batches_before + 1:
            if committed:
                session.commit()
            raise ConnectionError("the machine is gone")

    monkeypatch.setattr(jobs, "load_rows", breaks_off)
    campaign = make_campaign(sessions, opted_out=sample.opted_out)
    job = import_file(sessions, runner, campaign, sample.data)

    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert job.result == sample.summary
    assert loaded(sessions) == truth(sample)
    assert calls == 8 + 1, "one batch of eight is loaded again"


def test_who_opts_out_between_two_attempts_changes_no_number(
    sessions: sessionmaker[Session], runner: MemoryRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = make_campaign(sessions)
    whole, fails = jobs.summarize, iter([True])

    def opts_out_then_breaks_off(*arguments: Any) -> Any:
        if next(fails, False):
            with sessions.begin() as other:
                later = utc_now() + timedelta(seconds=1)
                other.add(OptOut(organization_id=campaign.organization_id, cell="+12125550100", created_at=later))
            raise ConnectionError("the machine is gone")
        return whole(*arguments)

    monkeypatch.setattr(jobs, "summarize", opts_out_then_breaks_off)
    job = import_file(sessions, runner, campaign, b"first,last,cell\nA,A,2125550100\nB,B,2125550101\n")

    assert job.attempt == 2
    assert job.result == {"loaded": 2, "repeated": 0, "invalid": 0, "missing": 0, "opted_out": 0}


def test_says_how_far_it_has_come_in_rows(
    sessions: sessionmaker[Session], runner: MemoryRunner, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "spoke_jobs.JobContext.progress", lambda _, percent, message="": said.append((percent, message))
    )
    import_file(sessions, runner, make_campaign(sessions), sample.data)
    assert said[0] == (13, "200 of 1,500 rows")
    assert said[-1] == (99, "1,500 of 1,500 rows")
    assert said == sorted(said)


def test_a_file_that_was_spoiled_after_its_upload_fails_the_job_and_loads_nobody(
    sessions: sessionmaker[Session], runner: MemoryRunner
) -> None:
    campaign = make_campaign(sessions)
    with sessions.begin() as session:
        upload, _ = upload_contacts(session, campaign, b"first,last,cell\nA,B,2125550100\n")
        upload.content = b"first,pet\nA,cat\n"
    (job,) = runner.drain()
    assert job.state is JobState.FAILED
    assert "no column for last name, cell" in job.result_message
    assert loaded(sessions) == set()


@pytest.fixture(autouse=True)
def nothing_left_open(sessions: sessionmaker[Session]) -> Iterator[None]:
    """Every session of a job is closed: a connection that it kept would keep a lock."""
    yield
    assert sessions.kw["bind"].pool.checkedout() == 0
