"""The kubernetes runner keeps the contract of all runners, on the real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import delete, select
from tests.contract import app
from tests.contract.runner import ChangedStartContract, RefusalContract, RunnerContract
from tests.contract.tasks import TaskContract
from tests.waiting import eventually, patient

from spoke_jobs.ledger import tables
from spoke_jobs.model import JobRequest

from .conftest import Product


class KubernetesStage:
    """The runner in this process; operator, sync, pods and the task deployment in the cluster."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self.engine = product.engine
        self.async_url = product.url
        self.runner = product.runner(app.registry)

    def settle(self) -> None:
        # Closing delivers the tasks that are still here.
        self.runner.close(patient(60))
        self.runner = self._product.runner(app.registry)

        def settled() -> bool:
            return all(job.state.final for job in self.jobs()) and not self._tasks_left()

        eventually(settled, "the end of all jobs and tasks", state=self.jobs)

    def _tasks_left(self) -> bool:
        pending = select(tables.task_outbox.c.id).where(tables.task_outbox.c.state == "pending")
        with self.engine.connect() as connection:
            return connection.scalar(pending.limit(1)) is not None

    def jobs(self) -> list[JobRequest]:
        return list(reversed(self._product.ledger.list_jobs(1000)))


@pytest.fixture
def stage(contract_product: Product) -> Iterator[KubernetesStage]:
    """Over empty tables: the tests look at all rows there are."""
    contract_product.create_tables(app.metadata)
    with contract_product.engine.begin() as connection:
        for table in (*reversed(tables.metadata.sorted_tables), app.effect):
            connection.execute(delete(table))
    made = KubernetesStage(contract_product)
    yield made
    made.runner.close()


class TestKubernetesRunner(RunnerContract, ChangedStartContract, RefusalContract, TaskContract):
    pass
