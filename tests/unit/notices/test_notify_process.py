"""The loop of `spoke-jobs notify`, and its health."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError
from tests.conftest import open_ledger
from tests.contract.notice_scene import FakeSender
from tests.unit.cli.conftest import fail
from tests.waiting import patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.notices import notify_process
from spoke_jobs.notices.notice_delivery import Channel
from spoke_jobs.notices.notice_pass import NoticeOptions, PassResult
from spoke_jobs.notices.notify_process import ALIVE_SECONDS, NoticeHealth, Notify


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


@pytest.fixture
def notify(sqlite_ledger_url: str) -> Iterator[tuple[Notify, FakeSender]]:
    engine, sender = create_engine(sqlite_ledger_url), FakeSender()
    process = Notify(engine, [sender], NoticeOptions())
    yield process, sender
    process.close()
    engine.dispose()


def run_passes(process: Notify, number: int) -> None:
    """Run the loop without its pauses, until it has waited so often."""

    class Stop(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waits += 1
            if self.waits >= number:
                self.set()
            return self.is_set()

    process.run(10.0, Stop())


def test_an_outage_of_the_database_ends_nothing(
    notify: tuple[Notify, FakeSender],
    ledger: SqlLedger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refused(Exception):
        sqlstate = None

    process, sender = notify
    take_pass, calls = notify_process.take_pass, iter([False, True, True, False])

    def sometimes(*args: object) -> PassResult:
        if next(calls):
            raise OperationalError("SELECT", {}, Refused("connection refused"))
        return take_pass(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(notify_process, "take_pass", sometimes)
    with caplog.at_level(logging.INFO):
        run_passes(process, 2)
        fail(ledger)
        run_passes(process, 2)
    assert len(sender.sent) == 1
    assert caplog.text.count("the database is unavailable (connection refused)") == 1
    assert caplog.text.count("the database answers again") == 1
    assert "Traceback" not in caplog.text


def test_an_unexpected_error_ends_nothing(
    notify: tuple[Notify, FakeSender],
    ledger: SqlLedger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process, sender = notify
    run_passes(process, 1)
    fail(ledger)

    def raise_once() -> None:
        sender.meanwhile = lambda: None
        raise ValueError("a defect")

    sender.meanwhile = raise_once
    run_passes(process, 2)
    assert len(sender.sent) == 1
    assert "unexpected error; retrying" in caplog.text


def test_a_receiver_that_fails_is_logged_once_and_its_recovery(
    notify: tuple[Notify, FakeSender],
    ledger: SqlLedger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process, sender = notify
    with caplog.at_level(logging.INFO):
        run_passes(process, 1)
        sender.problem = "it answers 500"
        for job_type in ("report", "export"):
            fail(ledger, job_type)
            run_passes(process, 1)
        sender.problem = ""
        fail(ledger, "mail")
        run_passes(process, 1)
    assert caplog.text.count("the webhook is unavailable (it answers 500)") == 1
    assert caplog.text.count("the webhook answers again") == 1
    assert caplog.text.count("sending to the webhook") == 1


def test_a_receiver_that_hangs_holds_up_no_other(
    sqlite_ledger_url: str, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, slow, quick = create_engine(sqlite_ledger_url), FakeSender(), FakeSender(Channel.SLACK)
    process = Notify(engine, [slow, quick], NoticeOptions())
    process.once()
    fail(ledger)
    stop, arrived = threading.Event(), threading.Event()
    quick.meanwhile = arrived.set
    answered: list[bool] = []
    slow.meanwhile = lambda: answered.append(arrived.wait(patient(30)))
    rest = stop.wait
    monkeypatch.setattr(stop, "wait", lambda _seconds: stop.set() if answered else rest(0.02))
    process.run(10.0, stop)
    assert answered == [True], "the other one was sent meanwhile"
    process.close()
    engine.dispose()


def test_its_health() -> None:
    now = [100.0]
    health = NoticeHealth([Channel.WEBHOOK, Channel.SLACK], lambda: now[0])
    health.rest_seconds = 10.0
    health.passed(Channel.SLACK, PassResult(True, 1, 2, "it answers 500"))
    now[0] += ALIVE_SECONDS + 9
    health.turned(Channel.SLACK)
    assert health.report() == (
        True,
        {
            "secondsSinceTurn": ALIVE_SECONDS + 9,
            "channels": {"slack": {"active": True, "waiting": 2, "problem": "it answers 500"}},
        },
    )
    now[0] += 1
    assert not health.report()[0], "the webhook's loop hangs"
    health.turned(Channel.WEBHOOK)
    assert health.report()[0]
