"""The memory runner keeps the contract, and lets a test look at what was dispatched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.app import engine as app_engine
from tests.contract.runner import RefusalContract, RunnerContract
from tests.contract.stages import MemoryStage
from tests.contract.tasks import TaskContract

from spoke_jobs.model import JobData, JobState


@pytest.fixture
def stage(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    made = MemoryStage(sqlite_ledger_url)
    yield made
    made.engine.dispose()
    app_engine(sqlite_ledger_url).dispose()


class TestMemoryRunner(RunnerContract, RefusalContract, TaskContract):
    def test_what_was_dispatched_can_be_looked_at_before_it_runs(self, stage: MemoryStage) -> None:
        stage.runner.dispatch_job(JobData("record", {"text": "later"}))
        stage.runner.dispatch_task("note", {"text": "later too"})
        assert [(job.job_type, job.state) for job in stage.jobs()] == [("record", JobState.WAITING)]
        assert [(task.name, task.payload) for task in stage.runner.tasks] == [
            ("note", '{"text":"later too","ratio":0.0}')
        ]
