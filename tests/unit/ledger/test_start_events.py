"""A change of when a job starts is written together with its event, and workers and sync are notified of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.conftest import open_ledger
from tests.contract.ledger import new_job

from spoke_jobs.errors import ChangeRefused
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest

Change = Callable[[SqlLedger, int], JobRequest | None]

CHANGES: dict[str, Change] = {
    "run now": lambda ledger, job_id: ledger.run_now(job_id, "ada"),
    "set priority": lambda ledger, job_id: ledger.set_priority(job_id, 5, "ada"),
    "suspend job": lambda ledger, job_id: ledger.suspend(job_id, "wait", "ada"),
    "resume job": lambda ledger, job_id: ledger.resume(job_id, "ada"),
}
"""The changes, by the action of their events."""
DETAILS = {"run now": "due now, not at ", "set priority": "5, not 0", "suspend job": "wait", "resume job": ""}


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


def changeable(ledger: SqlLedger, action: str) -> JobRequest:
    """A job that can be changed so."""
    job = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
    return (ledger.suspend(job.id) or job) if action == "resume job" else job


@pytest.mark.parametrize("action", CHANGES)
def test_an_event_says_who_has_changed_what(ledger: SqlLedger, action: str) -> None:
    job = changeable(ledger, action)
    CHANGES[action](ledger, job.id)
    newest = Queries(ledger.engine).events(9, EventFilter(job_id=job.id))[0]
    assert (newest.action, newest.actor, newest.job_type) == (action, "ada", "report")
    assert newest.detail.startswith(DETAILS[action])


@pytest.mark.parametrize("action", CHANGES)
def test_a_change_whose_event_can_t_be_written_is_not_made(ledger: SqlLedger, action: str) -> None:
    job = changeable(ledger, action)
    refuse = "CREATE TRIGGER refuses BEFORE INSERT ON job_event BEGIN SELECT RAISE(ABORT, 'refused'); END"
    with ledger.engine.begin() as connection:
        connection.execute(text(refuse))
    with pytest.raises(IntegrityError, match="refused"):
        CHANGES[action](ledger, job.id)
    assert ledger.get(job.id) == job


@pytest.mark.parametrize("action", ["set priority", "suspend job"])
def test_what_is_so_already_has_no_second_event(ledger: SqlLedger, action: str) -> None:
    job = changeable(ledger, action)
    first, again = CHANGES[action](ledger, job.id), CHANGES[action](ledger, job.id)
    assert first == again
    assert len(Queries(ledger.engine).events(9, EventFilter(job_id=job.id))) == 1


@pytest.mark.parametrize("action", CHANGES)
def test_workers_and_sync_are_notified_of_a_change(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    job, notified = changeable(ledger, action), list[str]()
    monkeypatch.setattr(ledger.notifier, "notify", lambda: notified.append(action))
    CHANGES[action](ledger, job.id)
    assert notified == [action]
    with contextlib.suppress(ChangeRefused):
        CHANGES[action](ledger, job.id)
    assert notified == [action], "nothing has changed since"
