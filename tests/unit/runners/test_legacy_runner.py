"""The legacy runner keeps the contract in each of its modes, on SQLite (on PostgreSQL: tests/integration/runners)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.contract.app import engine as app_engine
from tests.contract.ledger import new_job
from tests.contract.runner import ChangedStartContract, RefusalContract, RunnerContract
from tests.contract.stages import LegacyStage, running_worker
from tests.contract.tasks import TaskContract

from spoke_jobs import JobData, Registry, TaskContext
from spoke_jobs.model import JobState
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings, load_settings


@pytest.fixture(scope="module")
def worked_url(shared_sqlite_ledger_url: str) -> Iterator[str]:
    """A database with a worker."""
    with running_worker(shared_sqlite_ledger_url):
        yield shared_sqlite_ledger_url


@pytest.fixture(params=["sync", "same_process", "worker"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LegacyStage]:
    url = request.getfixturevalue("worked_url" if request.param == "worker" else "sqlite_ledger_url")
    monkeypatch.setenv("SPOKE_DATABASE_URL", url)
    made = LegacyStage(url, request.param)
    yield made
    made.close()
    app_engine(url).dispose()


class TestLegacyRunner(RunnerContract):
    pass


@pytest.mark.parametrize("stage", ["same_process", "worker"], indirect=True)
class TestChangedStarts(ChangedStartContract):
    """With JOBS_SYNC no job waits for its time."""


def cancels_itself(ctx: TaskContext, payload: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("sync", [True, False])
def test_a_task_that_was_cancelled_is_logged_as_failed(
    sqlite_ledger_url: str, sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    registry.task("cancels_itself")(cancels_itself)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url), tasks_sync=sync), registry)
    runner.dispatch_task("cancels_itself")
    runner.close()
    assert "(cancels_itself) failed" in caplog.text


def test_rows_of_successful_jobs_go_without_a_worker(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"SPOKE_DATABASE_URL": sqlite_ledger_url, "JOBS_SAME_PROCESS": "1", "JOBS_SYNC": "1"}
    for name, value in (environment | {"SPOKE_FINISHED": "delete"}).items():
        monkeypatch.setenv(name, value)
    registry = Registry()
    registry.job("succeeds")(lambda ctx: None)
    runner = LegacyRunner(load_settings(), registry)
    first, second = (runner.dispatch_job(JobData("succeeds")) for _ in range(2))
    assert {job.id for job in runner.ledger.list_jobs()} <= {second.id}, f"the row of {first.id} goes"
    runner.close()


@pytest.mark.parametrize("again", ["retry", "unique key"])
def test_a_job_of_another_runner_is_not_run_here(
    sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    environment = {"SPOKE_DATABASE_URL": sqlite_ledger_url, "JOBS_SAME_PROCESS": "1", "JOBS_SYNC": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    registry = Registry()
    registry.job("succeeds")(lambda ctx: None)
    runner = LegacyRunner(load_settings(), registry)
    other = runner.ledger.insert(new_job(job_type="succeeds", runner="kubernetes", unique_key="k"))
    if again == "retry":
        runner.ledger.cancel(other.id)
        runner.retry_job(other.id)
    else:
        assert runner.dispatch_job(JobData("succeeds", unique_key="k")).id == other.id
    found = runner.ledger.get(other.id)
    runner.close()
    assert found is not None
    assert (found.state, found.attempt) == (JobState.WAITING, 0)


@pytest.mark.parametrize("stage", ["sync", "same_process"], indirect=True)
class TestTasks(TaskContract):
    """No worker runs them."""


@pytest.mark.parametrize("stage", ["same_process"], indirect=True)
class TestRefusals(RefusalContract):
    """What is refused is refused before the mode makes a difference."""
