"""Schedules that an application makes at run time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from spoke_jobs import (
    Cron,
    Every,
    InvalidSchedule,
    RegistrationError,
    Registry,
    pause_schedule,
    put_schedule,
    remove_schedule,
    resume_schedule,
    use_runner,
)
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow, read_schedules
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_schedule
from spoke_jobs.payloads import SCHEDULE_LIMIT_BYTES
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.runners.ticker import ticker_of
from spoke_jobs.settings import Settings


class Account(BaseModel):
    name: str


@pytest.fixture
def runner(sqlite_ledger_url: str) -> Iterator[LegacyRunner]:
    registry = Registry()
    registry.job("sync_contacts", payload=Account)(lambda _ctx, _payload: None)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url)), registry)
    with use_runner(runner):
        yield runner
    runner.close()


def rows(runner: LegacyRunner) -> list[ScheduleRow]:
    with runner.ledger.engine.connect() as connection:
        return read_schedules(connection)


def test_a_schedule_is_part_of_the_caller_s_transaction(runner: LegacyRunner) -> None:
    with Session(runner.ledger.engine) as session:
        put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": "mill"}, session=session)
        session.rollback()
        assert rows(runner) == []
        put_schedule("mill", "sync_contacts", Every(minutes=5), payload=Account(name="mill"), session=session, by="ada")
        session.commit()
    (row,) = rows(runner)
    assert (row.origin, row.schedule().payload) == ("dynamic", {"name": "mill"})


def test_a_payload_that_is_too_large_for_a_row_is_refused(runner: LegacyRunner) -> None:
    name = "x" * SCHEDULE_LIMIT_BYTES
    with pytest.raises(RegistrationError, match="1,000,000 is the limit: put the data in a table"):
        put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": name})
    put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": name[:-500]})
    (row,) = rows(runner)
    assert row.schedule().payload == {"name": name[:-500]}


def test_it_dispatches_with_the_payload_and_options_that_were_given_last(runner: LegacyRunner) -> None:
    put_schedule("mill", "sync_contacts", Every(hours=1), payload={"name": "mill"})
    with pytest.raises(InvalidSchedule, match="there is a schedule 'mill' already"):
        put_schedule("mill", "sync_contacts", Every(hours=1), payload={"name": "other"})
    put_schedule("mill", "sync_contacts", Every(hours=1), payload={"name": "other"}, replace=True, priority=7)
    engine = runner.ledger.engine
    with engine.begin() as connection:
        due: datetime | None = connection.scalar(select(job_schedule.c.next_due_at))
        assert due is not None
        connection.execute(update(job_schedule).values(next_due_at=due - timedelta(hours=1)))
    (job,) = ticker_of(SqlLedger(engine), runner.registry, "legacy").tick_if_due()
    assert (job.payload, job.priority, job.scheduled_for) == ('{"name":"other"}', 7, due - timedelta(hours=1))


def test_pause_resume_and_removal_say_whether_there_was_one(runner: LegacyRunner) -> None:
    put_schedule("mill", "sync_contacts", Cron("0 3 * * *"), payload={"name": "mill"})
    assert pause_schedule("mill", by="ada")
    assert rows(runner)[0].paused_by == "ada"
    assert resume_schedule("mill")
    assert rows(runner)[0].paused_at is None
    assert remove_schedule("mill")
    assert not remove_schedule("mill")
    assert not pause_schedule("mill")
    assert not resume_schedule("mill")


def test_what_is_refused_writes_nothing(runner: LegacyRunner) -> None:
    with pytest.raises(RegistrationError, match=r"the schedule 'mill': .*needs a payload|the schedule 'mill': .*name"):
        put_schedule("mill", "sync_contacts", Every(minutes=5))
    with pytest.raises(RegistrationError, match="no job is registered as 'nothing'"):
        put_schedule("mill", "nothing", Every(minutes=5))
    with pytest.raises(RegistrationError, match="it can't have the option 'run_after'"):
        put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": "x"}, run_after=1)
    with pytest.raises(RegistrationError, match="priority is 'high'"):
        put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": "x"}, priority="high")
    with pytest.raises(RegistrationError, match="its timing is '0 3"):
        put_schedule("mill", "sync_contacts", "0 3 * * *", payload={"name": "x"})  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match="the schedule 'mill': overlap 'replace' takes no unique_key"):
        put_schedule(
            "mill", "sync_contacts", Every(minutes=5, overlap="replace"), payload={"name": "x"}, unique_key="k"
        )
    assert rows(runner) == []


def test_the_name_of_a_schedule_in_code_is_refused_before_a_worker_has_stored_it(runner: LegacyRunner) -> None:
    runner.registry.schedule("mill", "sync_contacts", Every(hours=1), payload={"name": "mill"})
    for replace in (False, True):
        with pytest.raises(InvalidSchedule, match="'mill' is declared in code: change it there$"):
            put_schedule("mill", "sync_contacts", Every(minutes=5), payload={"name": "mill"}, replace=replace)
    assert rows(runner) == []


def test_a_runner_without_a_database_has_none() -> None:
    with use_runner(MemoryRunner(Settings(), Registry())), pytest.raises(ConfigurationError, match="no schedules"):
        pause_schedule("mill")
