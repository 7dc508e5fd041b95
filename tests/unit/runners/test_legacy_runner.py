"""The legacy runner keeps the contract in each of its modes, on SQLite (on PostgreSQL: tests/integration/runners)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.contract.app import engine as app_engine
from tests.contract.runner import RefusalContract, RunnerContract
from tests.contract.stages import LegacyStage
from tests.contract.tasks import TaskContract

from spoke_jobs import Registry, TaskContext
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings


@pytest.fixture(params=["sync", "same_process", "worker"])
def stage(
    request: pytest.FixtureRequest, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LegacyStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    made = LegacyStage(sqlite_ledger_url, request.param)
    yield made
    made.close()
    app_engine(sqlite_ledger_url).dispose()


class TestLegacyRunner(RunnerContract):
    pass


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


@pytest.mark.parametrize("stage", ["sync", "same_process"], indirect=True)
class TestTasks(TaskContract):
    """No worker runs them."""


@pytest.mark.parametrize("stage", ["same_process"], indirect=True)
class TestRefusals(RefusalContract):
    """What is refused is refused before the mode makes a difference."""
