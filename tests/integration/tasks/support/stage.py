"""The kubernetes runner's tasks without a cluster: a real task server, and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine, select
from tests.contract.app import metadata, registry
from tests.contract.stages import async_twin
from tests.integration.tasks.support.servers import KEY, REPOSITORY, Server
from tests.waiting import eventually, patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

CONTRACT_APP = {"SPOKE_APP": "tests.contract.app:registry", "PYTHONPATH": str(REPOSITORY)}


def application_environment(tasks_url: str, database_url: str, *folders: Path) -> dict[str, str]:
    """That of an application under `kubernetes`, with modules in folders."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [*folders, REPOSITORY])),
        "JOB_RUNNER": "kubernetes",
        "SPOKE_SUBMIT": "sync",
        "SPOKE_DATABASE_URL": database_url,
        "SPOKE_TASKS_URL": tasks_url,
        "SPOKE_TASKS_KEY": KEY,
    }


def left_in_outbox(engine: Engine, state: str = "pending") -> int:
    """How many tasks of a state the outbox holds."""
    with engine.connect() as connection:
        return len(connection.scalars(select(task_outbox.c.id).where(task_outbox.c.state == state)).all())


class TasksStage:
    """A runner that leaves jobs to sync, which isn't here, and sends tasks to the server."""

    def __init__(self, url: str, server: Server, tasks: Registry = registry) -> None:
        self.engine = create_engine(url)
        metadata.create_all(self.engine)
        self.async_url = async_twin(url)
        self._settings = Settings(
            database_url=SecretStr(url), submit="sync", tasks_url=server.url, tasks_key=SecretStr(KEY)
        )
        self._registry = tasks
        self.runner = KubernetesRunner(self._settings, tasks)

    def settle(self) -> None:
        self.runner.close(patient(60))
        self.runner = KubernetesRunner(self._settings, self._registry)
        eventually(lambda: not left_in_outbox(self.engine), "no tasks are left in the outbox")

    def jobs(self) -> Sequence[JobRequest]:
        return list(reversed(self.runner.ledger.list_jobs(1000)))

    def close(self) -> None:
        self.runner.close()
        self.engine.dispose()
