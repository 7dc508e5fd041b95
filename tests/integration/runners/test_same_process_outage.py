"""A job of a process that runs its own jobs, whose database goes away meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from tests.integration.sync.proxy import Proxy
from tests.waiting import eventually, patient

from spoke_jobs import JobContext, JobData, JobState, Registry
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings

LEASE_SECONDS = 1.0


@pytest.fixture
def proxy(postgres_ledger_url: str) -> Iterator[Proxy]:
    url = make_url(postgres_ledger_url)
    made = Proxy((url.host or "", url.port or 5432))
    yield made
    made.close()


@pytest.mark.parametrize("fails", [False, True])
def test_its_attempt_ends_as_what_it_was_and_is_not_charged(
    postgres_ledger_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
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

    through = make_url(postgres_ledger_url).set(host="127.0.0.1", port=proxy.port)
    settings = Settings(
        database_url=SecretStr(through.render_as_string(hide_password=False)),
        jobs_same_process=True,
        lease_seconds=LEASE_SECONDS,
        poll_seconds=0.05,
    )
    runner = LegacyRunner(settings, registry)
    engine = create_engine(postgres_ledger_url)
    ledger = SqlLedger(engine)
    try:
        job = runner.dispatch_job(JobData("long"))
        assert runs.wait(patient(60))
        proxy.cut()
        goes_on.set()
        eventually(lambda: "could not record its end" in caplog.text)
        proxy.mend()

        def ended() -> bool:
            row = ledger.get(job.id)
            return row is not None and row.state is JobState.SUCCEEDED

        eventually(ended)
        assert [item.cause for item in ledger.attempts(job.id)] == ["DatabaseUnreachable", ""]
        assert told_to_stop == [False, False], "only the first attempt had to stop, and only later"
    finally:
        proxy.mend()
        runner.close()
        engine.dispose()
