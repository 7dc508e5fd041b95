"""Unique keys under concurrent dispatches. SQLite runs transactions one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, func, select, update
from sqlalchemy.orm import Session
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.waiting import patient

from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.lifecycle import inserts
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import Failure, JobRequest

PATIENCE = round(patient(60))
"""Seconds."""


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[SqlLedger]:
    engine = create_engine(postgres_ledger_url, pool_size=20)
    yield SqlLedger(engine)
    engine.dispose()


@contextmanager
def all_or_none(together: threading.Barrier) -> Iterator[None]:
    """Let the other threads go on after an error in one, which they would wait for."""
    try:
        yield
    except BaseException:
        together.abort()
        raise


def rows(ledger: SqlLedger) -> int:
    with ledger.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(job_request)) or 0


def test_a_key_that_changes_hands_is_never_held_twice(ledger: SqlLedger) -> None:
    """Dispatchers race with a worker that repeatedly ends the key's job: each gets a job that exists."""
    over = threading.Event()
    ended: list[int] = []

    def work() -> None:
        while not over.is_set():
            claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
            if claim is not None:
                ended.append(claim.job.id)
                ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)

    def dispatch(_: int) -> list[JobRequest]:
        return [ledger.insert(new_job(unique_key="k")) for _ in range(15)]

    worker = threading.Thread(target=work)
    worker.start()
    with ThreadPoolExecutor(4) as pool:
        dispatched = {job.id for jobs in pool.map(dispatch, range(4)) for job in jobs}
    over.set()
    worker.join()
    assert len(ended) == len(set(ended))
    assert set(ended) <= dispatched
    assert rows(ledger) == len(dispatched)  # each dispatch returned a job that exists


def test_dispatches_with_a_period_race_with_a_worker_and_are_one_job(ledger: SqlLedger) -> None:
    """The worker ends the key's job at once, so that dispatchers find it waiting, running, ended or not yet there."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
            if claim is not None:
                ledger.succeed(None, claim.token, None)

    together = threading.Barrier(4)

    def dispatch(_: int) -> list[int]:
        found = []
        with all_or_none(together):
            for number in range(8):
                together.wait(PATIENCE)
                found.append(ledger.insert(new_job(unique_key=f"k{number}", unique_for=3600)).id)
        return found

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(dispatch, range(4)))
    finally:
        over.set()
        worker.join()
    assert answers[1:] == answers[:1] * 3
    assert rows(ledger) == 8


def test_of_two_dispatches_that_replace_the_later_one_s_payload_counts(ledger: SqlLedger) -> None:
    """The second waits for the first one's commit; after its rollback it writes a row itself."""
    for ends in (Session.commit, Session.rollback):
        key = f"k {ends.__name__}"
        with Session(ledger.engine) as session, ThreadPoolExecutor(1) as pool:
            inserts.insert_jobs(session.connection(), [new_job(unique_key=key, payload="1", on_conflict="replace")])
            second = pool.submit(ledger.insert, new_job(unique_key=key, payload="2", on_conflict="replace"))
            ends(session)
            job = second.result()
        assert [(one.id, one.payload) for one in ledger.list_jobs() if one.unique_key == key] == [(job.id, "2")]


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "submitted"])
def test_a_job_that_changes_while_it_is_replaced(ledger: SqlLedger, gone: bool) -> None:
    """It runs and is pruned, or gets a SpokeJob, with which its due time no longer changes."""
    later, payload = {"unique_key": "k", "on_conflict": "replace"}, '"later"'
    due = datetime.now(UTC) + timedelta(hours=1)
    first = ledger.insert(new_job(**later))
    meanwhile = [delete(job_request) if gone else update(job_request).values(submitted_at=datetime.now(UTC))]

    def change(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE job_request") and meanwhile:
            connection.execute(meanwhile.pop())

    event.listen(ledger.engine, "before_cursor_execute", change)
    job = ledger.insert(new_job(**later, payload=payload, run_after=due))
    assert (job.payload, job.id == first.id, job.run_after == due) == (payload, not gone, gone)


def test_keys_taken_in_opposite_orders_end_in_one_clear_error(ledger: SqlLedger) -> None:
    took_first = threading.Barrier(2)

    def transaction(keys: tuple[str, str]) -> str:
        with Session(ledger.engine) as session:
            inserts.insert_jobs(session.connection(), [new_job(unique_key=keys[0])])
            took_first.wait(patient(30))
            try:
                inserts.insert_jobs(session.connection(), [new_job(unique_key=keys[1])])
            except UniquenessConflict as error:
                session.rollback()
                return str(error)
            session.commit()
            return ""

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(transaction, [("A", "B"), ("B", "A")]))
    assert rows(ledger) == 2
    assert answers[0] == ""
    assert "opposite order" in answers[1]
    assert "dispatch_jobs()" in answers[1]


def test_batches_that_name_keys_in_opposite_orders_both_go_on(ledger: SqlLedger) -> None:
    keys = [f"k{number}" for number in range(30)]
    together = threading.Barrier(4)

    def dispatch(order: list[str]) -> list[int]:
        together.wait()
        jobs = ledger.insert_many([new_job(unique_key=key) for key in order])
        assert [job.unique_key for job in jobs] == order
        return sorted(job.id for job in jobs)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(dispatch, [keys, keys[::-1], keys, keys[::-1]]))
    assert answers[1:] == answers[:1] * 3
    assert rows(ledger) == 30


def test_a_batch_is_written_whole_or_not_at_all(ledger: SqlLedger) -> None:
    spoilt = new_job(campaign_id=2**70)
    with pytest.raises(Exception, match=r"out of range|int too large"):
        ledger.insert_many([new_job() for _ in range(700)] + [new_job(unique_key="k"), spoilt])
    assert rows(ledger) == 0
