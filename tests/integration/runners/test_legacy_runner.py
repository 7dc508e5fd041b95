"""The legacy runner keeps the contract in each of its modes, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.app import engine as app_engine
from tests.contract.runner import RefusalContract, RunnerContract
from tests.contract.stages import LegacyStage
from tests.contract.tasks import TaskContract


@pytest.fixture(params=["sync", "same_process", "worker"])
def stage(
    request: pytest.FixtureRequest, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LegacyStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", postgres_ledger_url)
    made = LegacyStage(postgres_ledger_url, request.param)
    yield made
    made.close()
    app_engine(postgres_ledger_url).dispose()


class TestLegacyRunner(RunnerContract):
    pass


@pytest.mark.parametrize("stage", ["sync", "same_process"], indirect=True)
class TestTasks(TaskContract):
    """No worker runs them."""


@pytest.mark.parametrize("stage", ["same_process"], indirect=True)
class TestRefusals(RefusalContract):
    """What is refused is refused before the mode makes a difference."""
