"""The memory runner keeps the contract, and lets a test look at what was dispatched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.app import engine as app_engine
from tests.contract.runner import ChangedStartContract, RefusalContract, RunnerContract
from tests.contract.stages import MemoryStage
from tests.contract.tasks import TaskContract

from spoke_jobs import InvalidJobData, Registry, abatch, batch, use_runner
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobData, JobState
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings


@pytest.fixture
def stage(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryStage]:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    made = MemoryStage(sqlite_ledger_url)
    yield made
    made.engine.dispose()
    app_engine(sqlite_ledger_url).dispose()


class TestMemoryRunner(RunnerContract, ChangedStartContract, RefusalContract, TaskContract):
    def test_what_was_dispatched_can_be_looked_at_before_it_runs(self, stage: MemoryStage) -> None:
        stage.runner.dispatch_job(JobData("record", {"text": "later"}))
        stage.runner.dispatch_task("note", {"text": "later too"})
        assert [(job.job_type, job.state) for job in stage.jobs()] == [("record", JobState.WAITING)]
        assert [(task.name, task.payload) for task in stage.runner.tasks] == [
            ("note", '{"text":"later too","ratio":0.0}')
        ]

    def test_draining_leaves_suspended_jobs_whose_time_has_come(self, stage: MemoryStage) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        for text in ("suspended", "not suspended"):
            job = stage.runner.dispatch_job(JobData("record", {"text": text}, run_after=later))
            if text == "suspended":
                stage.runner.suspend_job(job.id)
        assert [job.state for job in stage.runner.drain()] == [JobState.WAITING, JobState.SUCCEEDED]


def test_draining_leaves_a_retried_job_that_a_pause_holds_back() -> None:
    registry = Registry()
    registry.job("report")(lambda _ctx: 1 // 0)
    runner = MemoryRunner(Settings(), registry)
    job = runner.dispatch_job(JobData("report"))
    assert [one.state for one in runner.drain()] == [JobState.FAILED]
    runner.retry_job(job.id)
    runner.ledger.limits.pause(parse_scope("type:report"), "the carrier is down")
    assert [one.state for one in runner.drain()] == [JobState.WAITING]


async def test_a_batch_whose_block_raises_stays_open_also_on_an_event_loop() -> None:
    registry = Registry()
    registry.job("report")(lambda _ctx: None)
    runner = MemoryRunner(Settings(), registry)
    with use_runner(runner):
        with pytest.raises(ZeroDivisionError):
            async with abatch("march", then=JobData("report")) as march:
                await march.adispatch_job(JobData("report"))
                raise ZeroDivisionError
        with pytest.raises(InvalidJobData, match="on_failed is 'stop'"):
            async with abatch("april", on_failed="stop"):
                pass
        with pytest.raises(InvalidJobData, match="then is 'report', where JobData is expected"), batch("may", "report"):  # type: ignore[arg-type]
            pass
    (found,) = runner.ledger.batches()
    assert (found.id, found.total, found.closed_at) == (march.id, 1, None)


def test_a_block_dispatches_into_its_own_batch_only() -> None:
    registry = Registry()
    registry.job("report")(lambda _ctx: None)
    runner = MemoryRunner(Settings(), registry)
    expected = "the dispatch of 'report': batch_id is 7, in the block of the batch 1: leave it out"
    with use_runner(runner), batch("march") as march:
        assert march.dispatch_job(JobData("report", batch_id=march.id)).batch_id == march.id
        with pytest.raises(InvalidJobData, match=expected):
            march.dispatch_jobs([JobData("report"), JobData("report", batch_id=7)])
    (found,) = runner.ledger.batches()
    assert found.total == 1


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 201, 7])
def test_a_batch_without_a_name_that_can_be_stored_is_refused(name: Any) -> None:
    runner = MemoryRunner(Settings(), Registry())
    expected = "the name of a batch is .*, where a string of 1 to 200 characters is expected"
    with use_runner(runner), pytest.raises(InvalidJobData, match=expected), batch(name):
        pass
    assert runner.ledger.batches() == []


def test_a_task_that_raises_keeps_nothing_else_from_running() -> None:
    registry = Registry()
    runner, ran = MemoryRunner(Settings(), registry), list[str]()

    @registry.task("raises")
    def raises(_ctx: object, payload: str) -> None:
        raise ValueError(payload)

    @registry.task("runs")
    def runs(_ctx: object, payload: str) -> None:
        ran.append(payload)

    for name, payload in (("raises", "one"), ("runs", "first"), ("raises", "two"), ("runs", "second")):
        runner.dispatch_task(name, payload)
    with pytest.raises(ExceptionGroup) as caught:
        runner.drain()
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
    assert ran == ["first", "second"]
    runner.dispatch_task("raises", "alone")
    with pytest.raises(ValueError, match="alone"):
        runner.drain()
