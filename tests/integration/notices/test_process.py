"""`spoke-jobs notify` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import open_ledger
from tests.contract.receiver import PROXIES, WEBHOOK_KEY, Receiver, receiver
from tests.plain_http import get
from tests.ports import free_port
from tests.unit.cli.conftest import fail
from tests.waiting import eventually, patient

from spoke_jobs.ledger.notices import notice_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import notice_channel


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


@contextmanager
def notify(url: str, served: Receiver, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in PROXIES} | {
        "SPOKE_DATABASE_URL": url,
        "SPOKE_NOTIFY_WEBHOOK_URL": served.url("/secret-path"),
        "SPOKE_NOTIFY_WEBHOOK_KEY": WEBHOOK_KEY,
    }
    command = [sys.executable, "-m", "spoke_jobs", "notify", "--every", "1s", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begun(ledger: SqlLedger) -> None:
    """Wait until the process has looked once: it reports what fails from then on."""

    def holder() -> str:
        with ledger.engine.connect() as connection:
            return notice_rows.holder_of(connection, "webhook")

    eventually(holder, "the process holds the lease")


def test_it_sends_until_sigterm_and_gives_its_lease_back(ledger: SqlLedger, sqlite_ledger_url: str) -> None:
    port = free_port()
    with receiver() as served, notify(sqlite_ledger_url, served, "--health-port", str(port)) as process:
        begun(ledger)
        job_id = fail(ledger)
        eventually(lambda: served.received, "a notice arrives")
        assert served.received[0].document["groups"][0]["job_id"] == job_id
        answer = get(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 200
        assert answer.json()["channels"]["webhook"]["active"] is True
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=patient(30))
    assert process.returncode == 0, log
    assert "sent 1 notice to the webhook" in log
    assert "secret-path" not in log
    assert "Traceback" not in log
    with ledger.engine.connect() as connection:
        assert notice_rows.holder_of(connection, "webhook") == ""


def test_one_that_is_killed_before_it_has_an_answer_is_followed_by_one_that_sends_the_same(
    ledger: SqlLedger, sqlite_ledger_url: str
) -> None:
    with receiver() as served:
        with notify(sqlite_ledger_url, served) as process:
            begun(ledger)
            served.hang()
            fail(ledger)
            eventually(lambda: served.received, "the notice is being sent")
            process.kill()
            process.wait(timeout=patient(30))
        with ledger.engine.begin() as connection:  # as if a minute had passed
            connection.execute(notice_channel.update().values(lease_until=None))
        with notify(sqlite_ledger_url, served):
            eventually(lambda: len(served.received) == 2, "it is sent again")
    first, second = served.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
