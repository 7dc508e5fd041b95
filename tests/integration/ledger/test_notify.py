"""Notifications after a commit."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from tests.contract.ledger import LEASE, claim_next, new_job, present
from tests.waiting import eventually, patient, stays

from spoke_jobs.ledger import notify as module
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.notify import CHANNEL, LIMITS, LIMITS_MARK, Notifier, listen
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure


def test_a_notification_without_a_thread_does_not_prevent_later_ones(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = create_engine(postgres_url)
    notifier = Notifier(engine, "spoke_test")
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN spoke_test")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuses)
            notifier.notify()
        notifier.notify()
        assert list(connection.notifies(timeout=patient(30), stop_after=1))
    notifier.close()
    engine.dispose()


def test_whoever_ends_a_job_that_others_wait_for_notifies_once_it_is_committed(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    ledger = SqlLedger(engine)
    url = make_url(postgres_ledger_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")

        def notified(seconds: float = patient(60)) -> bool:
            return bool(list(connection.notifies(timeout=seconds, stop_after=1)))

        def claim_with_dependent(**fields: Any) -> Claim:
            job = ledger.insert(new_job())
            ledger.insert(new_job(job_type="later", after=(job.id,), **fields))
            return claim_next(ledger)

        claim = claim_with_dependent()
        with Session(engine) as session:
            ledger.succeed(session, claim.token, None)
            assert not notified(0.3), "nobody sees the end yet"
            session.commit()
        assert notified()
        ledger.succeed_many({claim_with_dependent().token: None})
        assert notified()
        ledger.fail(claim_with_dependent(after_failed="run").token, Failure("JobError", for_good=True), decide=True)
        assert notified()
        batch = ledger.open_batch("empty", new_job(job_type="later"))
        ledger.close_batch(batch.id)
        assert notified()
        failed = claim_with_dependent()
        ledger.fail(failed.token, Failure("JobError", for_good=True), decide=True)
        assert not notified(0.3), "its dependent has failed: there is nothing to do"
        ledger.retry(failed.job.id)
        assert notified()
        (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
        ledger.succeed_many({claim.token: None})
        assert notified()
        while claims := ledger.claim_batch("legacy", ["report", "later"], "w", LEASE, 9):
            ledger.succeed_many({claim.token: None for claim in claims})
        assert not notified(0.3), "nothing depended on these"
    ledger.close_notifier()
    engine.dispose()


def test_a_second_ledger_disturbs_no_thread_that_uses_the_engine(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    ledgers = [SqlLedger(engine)]

    def make_another(*_: object) -> None:
        ledgers.append(SqlLedger(engine))

    # As if another thread made it while this one calls the listeners.
    event.listen(engine, "checkin", make_another, insert=True)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert len(ledgers) > 1
    for ledger in ledgers:
        ledger.close_notifier()
    engine.dispose()


def test_the_notifier_s_connection_serves_nobody_else(postgres_url: str) -> None:
    """It does not wait for the disk, and a commit of the application on it could be lost."""
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    notifier = Notifier(engine, "spoke_test")
    notifier.notify()
    notifier.close()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    engine.dispose()


def test_a_lost_connection_is_made_again_for_the_next_notification(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    engine = create_engine(postgres_url)
    connected: list[int] = []
    event.listen(engine, "connect", lambda connection, _record: connected.append(connection.info.backend_pid))
    notifier = Notifier(engine, "spoke_test_lost")
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN spoke_test_lost")
        notifier.notify()
        assert list(connection.notifies(timeout=patient(30), stop_after=1))
        connection.execute("SELECT pg_terminate_backend(%s)", connected)
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
        eventually(lambda: connection.execute(gone, connected).fetchone() == (True,))
        notifier.notify()
        eventually(lambda: not notifier._requested.is_set(), "it finds that the connection is lost")
        assert stays(lambda: len(connected) == 1, 0.5), "there is nothing to send"
        notifier.notify()
        assert list(connection.notifies(timeout=patient(30), stop_after=1))
        assert len(connected) == 2
    notifier.close()
    engine.dispose()


def test_a_changed_limit_is_noticed_among_notifications_that_arrive_together(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    wakes = present(listen(engine, "spoke_test"))
    with wakes:
        wakes.settimeout(patient(60))
        assert wakes.recv(1) == LIMITS_MARK, "it listens"
        with engine.begin() as connection:
            for payload in ("first", LIMITS, "last"):
                connection.exec_driver_sql(f"SELECT pg_notify('spoke_test', '{payload}')")
        while wakes.recv(1) != LIMITS_MARK:  # those before it may arrive by themselves
            pass
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_notify('spoke_test', '')")  # the listener finds that nobody reads
    engine.dispose()
