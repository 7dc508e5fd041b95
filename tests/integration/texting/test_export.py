"""The export: every contact once, what became of its message, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker, undefer
from tests.integration.texting.making import make_campaign

from spoke_jobs import JobState
from spoke_jobs.runners.memory_runner import MemoryRunner
from texting import exporting, jobs
from texting.actions import request_export, upload_contacts
from texting.models import Campaign, Contact, ExportFile, Message, MessageState, utc_now

FIRST = 'first,last,cell,zip,id,note\nZoë,O\'Neil,2125550100,02134,1,=1+1\nBo,Ng,2125550101,02135,2,"two\nlines"\n'
SECOND = "first,last,cell,Town\nCy,Day,2125550102,Springfield\n"


@pytest.fixture
def campaign(sessions: sessionmaker[Session], runner: MemoryRunner) -> Campaign:
    campaign = make_campaign(sessions)
    for text in (FIRST, SECOND):
        with sessions.begin() as session:
            upload_contacts(session, campaign, text.replace(",id,", ",external id,").encode())
        runner.drain()
    return campaign


def export(sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign) -> tuple[Any, str]:
    """The job's result, and the file."""
    with sessions.begin() as session:
        request_export(session, campaign)
    job = runner.drain()[-1]
    assert job.state is JobState.SUCCEEDED, job.result_message
    with sessions() as session:
        made = select(ExportFile).where(ExportFile.job_uid == job.uid).options(undefer(ExportFile.content))
        file = session.scalars(made).one()
    assert file.rows == job.result["rows"]
    data = gzip.decompress(file.content)
    assert hashlib.sha256(data).hexdigest() == job.result["sha256"]
    return job.result, data.decode()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_every_contact_stands_in_it_once_with_all_its_fields(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    result, text = export(sessions, runner, campaign)
    rows = rows_of(text)
    assert result["rows"] == 3
    assert text.startswith("\ufeffexternal_id,first_name,last_name,cell,zip,note,Town,message_state,")
    assert [row["cell"] for row in rows] == ["+12125550100", "+12125550101", "+12125550102"]
    assert rows[0]["first_name"] == "Zoë"
    assert (rows[0]["zip"], rows[0]["external_id"]) == ("02134", "1")
    assert [row["note"] for row in rows] == ["'=1+1", "two\nlines", ""]
    assert [row["Town"] for row in rows] == ["", "", "Springfield"]
    assert {row["message_state"] for row in rows} == {""}


def test_the_latest_message_of_each_contact_is_told(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign
) -> None:
    with sessions.begin() as session:
        first, second, _ = session.scalars(select(Contact).order_by(Contact.id)).all()
        session.add(Message(contact_id=first.id, text="a", state=MessageState.REFUSED, error="no such number"))
        session.flush()
        session.add(Message(contact_id=first.id, text="b", state=MessageState.SENT, sent_at=utc_now()))
        session.add(Message(contact_id=second.id, text="c", state=MessageState.REFUSED, error="=no"))
    rows = rows_of(export(sessions, runner, campaign)[1])
    assert [row["message_state"] for row in rows] == ["sent", "refused", ""]
    assert rows[0]["message_sent_at"].endswith("+00:00")
    assert [row["message_error"] for row in rows] == ["", "'=no", ""]


def test_batches_neither_lose_nor_repeat_a_contact(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export(sessions, runner, campaign)[1]
    for size in (1, 2, 3):
        monkeypatch.setattr(exporting, "BATCH_ROWS", size)
        assert export(sessions, runner, campaign)[1] == whole


def test_an_attempt_that_breaks_off_at_its_very_end_leaves_one_file(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = iter([True])
    whole = jobs.ExportFile

    def breaks_off(**values: Any) -> ExportFile:
        if next(fails, False):
            raise ConnectionError("the machine is gone")
        return whole(**values)

    monkeypatch.setattr(jobs, "ExportFile", breaks_off)
    with sessions.begin() as session:
        request_export(session, campaign)
    job = runner.drain()[-1]
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    with sessions() as session:
        assert len(session.scalars(select(whole)).all()) == 1
