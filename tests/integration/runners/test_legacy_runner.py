"""The legacy runner keeps the contract in each of its modes, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.app import engine as app_engine
from tests.contract.runner import ChangedStartContract, RunnerContract
from tests.contract.stages import LegacyStage, running_worker
from tests.contract.tasks import TaskContract


@pytest.fixture(scope="module")
def worked_url(shared_postgres_ledger_url: str) -> Iterator[str]:
    """A database with a worker."""
    with running_worker(shared_postgres_ledger_url):
        yield shared_postgres_ledger_url


@pytest.fixture(params=["sync", "same_process", "worker"])
def stage(request: pytest.FixtureRequest, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LegacyStage]:
    url = request.getfixturevalue("worked_url" if request.param == "worker" else "postgres_ledger_url")
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


@pytest.mark.parametrize("stage", ["sync", "same_process"], indirect=True)
class TestTasks(TaskContract):
    """No worker runs them."""
