"""The kubernetes runner's tasks keep the contract of all runners: over HTTP, and by the outbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import delete
from tests.contract.app import effect
from tests.contract.app import engine as app_engine
from tests.contract.tasks import TaskContract
from tests.integration.tasks.support.servers import Server, task_server
from tests.integration.tasks.support.stage import CONTRACT_APP, TasksStage

from spoke_jobs.ledger.tables import task_outbox


@pytest.fixture(scope="module")
def server(shared_postgres_ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests, whose effects each leaves deleted."""
    folder = tmp_path_factory.mktemp("server")
    with task_server(folder, SPOKE_DATABASE_URL=shared_postgres_ledger_url, **CONTRACT_APP) as server:
        yield server


@pytest.fixture
def stage(server: Server, shared_postgres_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TasksStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", shared_postgres_ledger_url)
    made = TasksStage(shared_postgres_ledger_url, server)
    yield made
    with made.engine.begin() as connection:
        for table in (effect, task_outbox):
            connection.execute(delete(table))
    made.close()
    app_engine(shared_postgres_ledger_url).dispose()


class TestTasks(TaskContract):
    pass
