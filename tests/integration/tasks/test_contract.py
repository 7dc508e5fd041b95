"""The kubernetes runner's tasks keep the contract of all runners: over HTTP, and by the outbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.app import engine as app_engine
from tests.contract.tasks import TaskContract
from tests.integration.tasks.conftest import StartServer
from tests.integration.tasks.support.stage import CONTRACT_APP, TasksStage


@pytest.fixture
def stage(start_server: StartServer, postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TasksStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", postgres_ledger_url)
    server = start_server(SPOKE_DATABASE_URL=postgres_ledger_url, **CONTRACT_APP)
    made = TasksStage(postgres_ledger_url, server)
    yield made
    made.close()
    app_engine(postgres_ledger_url).dispose()


class TestTasks(TaskContract):
    pass
