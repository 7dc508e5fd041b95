"""Jobs in the process that dispatched them: none waits for ever, and one job's fault is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from tests.conftest import given_back
from tests.contract.ledger import claim_one
from tests.waiting import eventually

from spoke_jobs import JobContext, JobData, JobState, Registry, RetryLater
from spoke_jobs.contract import retry
from spoke_jobs.execution import in_process
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope
from spoke_jobs.model import Claim
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings


class Site:
    """A runner with jobs that dispatch jobs."""

    def __init__(self, url: str, *, sync: bool, lease_seconds: float = 60) -> None:
        self.registry = Registry()
        self.ran: list[Any] = []
        self.runner = LegacyRunner(
            Settings(
                database_url=SecretStr(url),
                jobs_same_process=True,
                jobs_sync=sync,
                lease_seconds=lease_seconds,
                poll_seconds=0.02,
            ),
            self.registry,
        )
        self.registry.job("note")(lambda _ctx, payload: self.ran.append(payload))

    def states(self) -> list[JobState]:
        return [job.state for job in self.runner.ledger.list_jobs()]

    def close(self) -> None:
        given_back(self.runner.ledger.engine)
        self.runner.close()


@pytest.fixture
def sync_site(sqlite_ledger_url: str) -> Iterator[Site]:
    site = Site(sqlite_ledger_url, sync=True)
    yield site
    site.close()


@pytest.fixture
def lapsing_site(sqlite_ledger_url: str) -> Iterator[Site]:
    """The same with a lease that lapses soon."""
    site = Site(sqlite_ledger_url, sync=True, lease_seconds=0.5)
    yield site
    site.close()


@pytest.fixture
def site(sqlite_ledger_url: str) -> Iterator[Site]:
    site = Site(sqlite_ledger_url, sync=False)
    yield site
    site.close()


def test_a_job_that_dispatches_into_the_queue_it_locks_is_followed_by_it(sync_site: Site) -> None:
    def outer(_ctx: JobContext, _payload: Any) -> None:
        sync_site.runner.dispatch_job(JobData("note", "inner", queue_name="q", locks_queue=True))
        sync_site.runner.dispatch_job(JobData("note", "elsewhere"))
        sync_site.ran.append("outer")

    sync_site.registry.job("outer")(outer)
    sync_site.runner.dispatch_job(JobData("outer", queue_name="q", locks_queue=True))
    assert sync_site.ran == ["elsewhere", "outer", "inner"]
    assert set(sync_site.states()) == {JobState.SUCCEEDED}


@pytest.mark.alone
def test_a_queue_that_a_dead_process_held_is_freed(lapsing_site: Site, sqlite_ledger_url: str) -> None:
    ledger: SqlLedger = lapsing_site.runner.ledger
    lapsing_site.registry.job("of_the_dead")(lambda _ctx, _payload: None)
    dead = ledger.insert(lapsing_site.runner._prepare(JobData("of_the_dead", queue_name="q", locks_queue=True)))
    assert claim_one(ledger, "legacy", ["of_the_dead"], "dead", 0.1) is not None
    lapsing_site.runner.dispatch_job(JobData("note", "after it", queue_name="q", locks_queue=True))
    assert lapsing_site.ran == ["after it"]
    row = ledger.get(dead.id)
    assert row is not None
    assert row.cause == "WorkerLost"


@pytest.mark.alone
def test_a_database_that_is_away_as_a_job_ends_is_not_charged_and_the_job_goes_on_once_it_is_back(
    lapsing_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "OWN_BACKOFF", {})
    away, runs = threading.Event(), []

    def patch(name: str) -> None:
        real = getattr(SqlLedger, name)

        def answers(ledger: SqlLedger, *arguments: Any, **options: Any) -> Any:
            if away.is_set():
                raise OperationalError("", {}, ConnectionError("away"), connection_invalidated=True)
            return real(ledger, *arguments, **options)

        monkeypatch.setattr(SqlLedger, name, answers)

    for name in ("succeed", "fail", "get", "heartbeat", "claim"):
        patch(name)

    def long(_ctx: JobContext, _payload: Any) -> None:
        runs.append(threading.current_thread().name)
        if len(runs) == 1:
            away.set()

    lapsing_site.registry.job("long")(long)
    job = lapsing_site.runner.dispatch_job(JobData("long"))
    away.clear()
    eventually(lambda: lapsing_site.states() == [JobState.SUCCEEDED])
    causes = [item.cause for item in lapsing_site.runner.ledger.attempts(job.id)]
    assert causes == ["DatabaseUnreachable", ""]
    assert runs == ["MainThread", "spoke-after-outage"]


def test_a_suspended_job_is_left_until_it_is_resumed_and_starts_at_once_however_long_that_was(
    sync_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def suspended(ctx: JobContext, _payload: Any) -> None:
        sync_site.ran.append(ctx.attempt)
        if len(sync_site.ran) == 1:
            sync_site.runner.suspend_job(ctx.job.id)
            raise RetryLater(0)

    sync_site.registry.job("suspended")(suspended)
    job = sync_site.runner.dispatch_job(JobData("suspended"))
    assert (sync_site.ran, sync_site.states()) == ([1], [JobState.WAITING])
    with sync_site.runner.ledger.engine.begin() as connection:
        connection.execute(update(job_request).values(run_after=clock_after(-7200), updated_at=clock_after(-7200)))
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(in_process, "time", clock)
    sync_site.runner.resume_job(job.id)
    assert (sync_site.ran, sync_site.states()) == ([1, 2], [JobState.SUCCEEDED])
    assert max(slept, default=0.0) < 1.0


def test_ctrl_c_ends_the_job_and_reaches_the_caller(sync_site: Site) -> None:
    def interrupted(_ctx: JobContext, _payload: Any) -> None:
        raise KeyboardInterrupt

    sync_site.registry.job("interrupted")(interrupted)
    with pytest.raises(KeyboardInterrupt):
        sync_site.runner.dispatch_job(JobData("interrupted"))
    (job,) = sync_site.runner.ledger.list_jobs()
    assert (job.state, job.cause, job.attempt) == (JobState.WAITING, "Interrupted", 1)


def test_an_end_that_cannot_be_recorded_leaves_the_thread_at_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = threading.Event()
    real = SqlLedger.succeed

    def succeed(self: SqlLedger, *arguments: Any) -> None:
        if not broken.is_set():
            broken.set()
            raise MemoryError("a fault of ours")
        real(self, *arguments)

    monkeypatch.setattr(SqlLedger, "succeed", succeed)
    monkeypatch.setattr(SqlLedger, "fail", lambda *_a, **_k: 1 / 0)
    site.runner.dispatch_job(JobData("note", "first"))
    eventually(broken.is_set)
    monkeypatch.undo()
    site.runner.dispatch_job(JobData("note", "second"))
    eventually(lambda: "second" in site.ran)


def test_starting_takes_up_what_an_earlier_process_left(site: Site) -> None:
    site.runner.ledger.insert(site.runner._prepare(JobData("note", "left behind")))
    site.runner.start()
    eventually(lambda: site.ran == ["left behind"])


def test_a_claim_that_took_too_long_is_given_back_uncharged_and_takes_another_token(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = Rate(5, 1)
    site.runner.ledger.limits.set(parse_scope("type:note"), lambda _old: Bounds(rate=rate))
    real, found = SqlLedger.claim_batch, list[Claim]()

    def claim_batch(self: SqlLedger, *arguments: Any) -> Sequence[Claim]:
        claims = real(self, *arguments)
        if claims and not found:
            time.sleep(rate.start_seconds)
        found.extend(claims)
        return claims

    monkeypatch.setattr(SqlLedger, "claim_batch", claim_batch)
    job = site.runner.dispatch_job(JobData("note", "once"))
    eventually(lambda: site.states() == [JobState.SUCCEEDED])
    assert site.ran == ["once"]
    assert [claim.number for claim in found][:2] == [1, 1]
    assert [attempt.number for attempt in site.runner.ledger.attempts(job.id)] == [1]


def test_a_process_that_is_always_too_late_for_a_rate_still_runs_its_jobs(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.runner.ledger.limits.set(parse_scope("type:note"), lambda _old: Bounds(rate=Rate(100, 1, 5)))
    real = SqlLedger.claim_batch

    def claim_batch(self: SqlLedger, *arguments: Any) -> Sequence[Claim]:
        claims = real(self, *arguments)
        return [replace(claim, start_by=time.monotonic() - 0.02) for claim in claims]

    monkeypatch.setattr(SqlLedger, "claim_batch", claim_batch)
    for number in range(3):
        site.runner.dispatch_job(JobData("note", number))
    eventually(lambda: len(site.ran) == 3)
    assert sum("was started in time for its rate" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("away", [True, False], ids=["away", "refused"])
def test_a_late_claim_that_cannot_be_released_is_not_charged(
    site: Site, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    real, late = SqlLedger.claim_batch, list[Claim]()

    def claim_batch(self: SqlLedger, *arguments: Any) -> Sequence[Claim]:
        claims = real(self, *arguments)
        if late or not claims:
            return claims
        late.extend(replace(claim, start_by=time.monotonic() - 1) for claim in claims)
        return late

    def release(*_arguments: Any) -> bool:
        raise OperationalError("", {}, ConnectionError("away"), connection_invalidated=away)

    monkeypatch.setattr(retry, "OWN_BACKOFF", {})
    monkeypatch.setattr(SqlLedger, "claim_batch", claim_batch)
    monkeypatch.setattr(SqlLedger, "release", release)
    job = site.runner.dispatch_job(JobData("note", "once"))
    eventually(lambda: site.states() == [JobState.SUCCEEDED])
    assert [attempt.cause for attempt in site.runner.ledger.attempts(job.id)] == ["Interrupted", ""]
