"""Outages of the database: the name of its host is not found, as when DNS is away, or a running job loses it.

The driver, the server and the connections are real. The names are looked up here instead of by the system's resolver.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from tests.integration.sync.proxy import Proxy
from tests.waiting import eventually, patient

from spoke_jobs import JobContext, JobData, JobState, Registry
from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.errors import DatabaseUnreachable
from spoke_jobs.execution import pod
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings
from spoke_jobs.sync.writer import ConnectionLost, Writer

HOST = "database.shop.svc"
START_TIMEOUT = 300
NO_ANSWER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Names:
    """Look-ups of the one name, which end in an error as long as one is set."""

    def __init__(self) -> None:
        self.error: socket.gaierror | None = None
        self.failures = 0
        self._look_up = socket.getaddrinfo

    def look_up(self, host: Any, *arguments: Any, **named: Any) -> Any:
        if host != HOST:
            return self._look_up(host, *arguments, **named)
        if self.error is not None:
            self.failures += 1
            raise self.error
        return self._look_up("127.0.0.1", *arguments, **named)


class Waits(threading.Event):
    """Waits that pass at once, and the clock that they move. DNS is back after some seconds."""

    def __init__(self, names: Names, seconds: float) -> None:
        super().__init__()
        self._names, self._seconds, self.now = names, seconds, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += timeout
        if self.now >= self._seconds:
            self._names.error = None
        return False

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    return made


@pytest.fixture
def proxy(postgres_ledger_url: str) -> Iterator[Proxy]:
    url = make_url(postgres_ledger_url)
    made = Proxy((url.host or "", url.port or 5432))
    yield made
    made.close()


@pytest.fixture
def by_name(postgres_ledger_url: str, proxy: Proxy) -> URL:
    """The database's URL, with the name of its host."""
    return make_url(postgres_ledger_url).set(host=HOST, port=proxy.port)


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    """The test's own way to the database."""
    made = create_engine(postgres_ledger_url)
    yield made
    made.dispose()


def a_runner(url: URL, registry: Registry, **settings: Any) -> LegacyRunner:
    return LegacyRunner(
        Settings(database_url=SecretStr(url.render_as_string(hide_password=False)), **settings), registry
    )


@pytest.mark.parametrize(
    ("seconds", "error"), [(10, NO_SUCH_NAME), (60, NO_ANSWER), (600, NO_SUCH_NAME), (7200, NO_ANSWER)]
)
def test_a_pod_waits_within_its_start_timeout_until_the_name_is_found(
    seconds: float,
    error: socket.gaierror,
    engine: Engine,
    by_name: URL,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The times are those of the page on outages, docs/operating.md."""
    registry = Registry()
    registry.job("waits")(lambda _ctx, _payload: None)
    ledger = SqlLedger(engine)
    runner = a_runner(by_name, registry)
    job = runner.dispatch_job(JobData("waits"))
    runner.close()
    of_pod = create_engine(by_name)
    names.error, waits = error, Waits(names, seconds)
    monkeypatch.setattr(pod, "time", waits)
    assignment = PodAssignment(job.id, job.uid, 1, start_timeout_seconds=START_TIMEOUT)
    if seconds > START_TIMEOUT:
        with pytest.raises(DatabaseUnreachable, match=HOST):
            pod.claim_attempt(SqlLedger(of_pod), assignment, 30, waits)
        assert waits.now == pytest.approx(START_TIMEOUT)
        assert ledger.attempts(job.id) == []
    else:
        assert isinstance(pod.claim_attempt(SqlLedger(of_pod), assignment, 30, waits), Claim)
        assert waits.now <= seconds + 15
        row = ledger.get(job.id)
        assert row is not None
        assert (row.state, row.attempt) == (JobState.RUNNING, 1)
        assert [item.cause for item in ledger.attempts(job.id)] == [""]
    of_pod.dispose()


def test_sync_waits_until_the_name_is_found(by_name: URL, names: Names) -> None:
    """While it waits it is not active, and `sync_process` tries again: for how long does not matter."""
    writer = Writer(Settings(database_url=SecretStr(by_name.render_as_string(hide_password=False))).database)
    for error in (NO_ANSWER, NO_SUCH_NAME):
        names.error = error
        for _ in range(3):
            with pytest.raises((ConnectionLost, DatabaseUnreachable), match=HOST):
                writer.lead()
        names.error = None
        assert writer.lead()
        writer.close()
    writer.engine.dispose()


@pytest.mark.parametrize(("fails", "error"), [(True, None), (False, NO_ANSWER)], ids=["database", "name"])
def test_the_attempt_of_a_running_job_ends_as_what_it_was_and_is_not_charged(
    fails: bool,
    error: socket.gaierror | None,
    engine: Engine,
    by_name: URL,
    names: Names,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Connections outlast an outage of DNS. This one breaks meanwhile, and only the name's look-up fails then."""
    registry = Registry()
    runs, goes_on = threading.Event(), threading.Event()
    told_to_stop: list[bool] = []

    @registry.job("long")
    def long(ctx: JobContext, _payload: Any) -> None:
        told_to_stop.append(ctx.cancelled)
        if not goes_on.is_set():
            runs.set()
            goes_on.wait(patient(60))
            if fails:
                raise ValueError("whatever")

    runner = a_runner(by_name, registry, jobs_same_process=True, lease_seconds=1.0, poll_seconds=0.05)
    ledger = SqlLedger(engine)
    try:
        job = runner.dispatch_job(JobData("long"))
        assert runs.wait(patient(60))
        names.error = error
        proxy.cut()
        if error is not None:
            proxy.mend()
            eventually(lambda: names.failures > 0, "the server answers, and is not found")
        goes_on.set()
        eventually(lambda: "could not record its end" in caplog.text)
        names.error = None
        proxy.mend()

        def ended() -> bool:
            row = ledger.get(job.id)
            return row is not None and row.state is JobState.SUCCEEDED

        eventually(ended)
        assert [item.cause for item in ledger.attempts(job.id)] == ["DatabaseUnreachable", ""]
        assert told_to_stop == [False, False], "only the first attempt had to stop, and only later"
    finally:
        names.error = None
        proxy.mend()
        runner.close()
