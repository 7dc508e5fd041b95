"""Every dispatch, attempt and task calls the hooks, whatever function or runner is used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from spoke_jobs import (
    AttemptCall,
    DispatchCall,
    InvalidPayload,
    JobData,
    Middleware,
    RegistrationError,
    Registry,
    RetryPolicy,
    Runner,
    TaskCall,
    adispatch_job,
    adispatch_jobs,
    adispatch_task,
    batch,
    dispatch_job,
    dispatch_jobs,
    dispatch_task,
    use_runner,
)
from spoke_jobs.registry import default
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.protocol.messages import Task, TaskOutcome
from spoke_jobs.tasks.server.task_run import TaskRun, run_async, run_def


class Noted(Middleware):
    def __init__(self) -> None:
        self.dispatches: list[tuple[str, DispatchCall]] = []
        self.calls: list[tuple[str, AttemptCall | TaskCall]] = []
        self.causes: list[str] = []
        self.errors: list[BaseException] = []

    def before_dispatch(self, call: DispatchCall) -> None:
        assert call.rows == ()
        self.dispatches.append(("before", call))

    def after_dispatch(self, call: DispatchCall) -> None:
        self.dispatches.append(("after", call))

    def dispatch_failed(self, call: DispatchCall, error: BaseException) -> None:
        self.dispatches.append((type(error).__name__, call))

    def before_attempt(self, call: AttemptCall) -> None:
        self.calls.append(("before", call))

    def after_attempt(self, call: AttemptCall) -> None:
        self.calls.append(("after", call))

    def attempt_failed(self, call: AttemptCall, error: BaseException) -> None:
        self.calls.append(("failed", call))
        self.errors.append(error)

    def attempt_recorded(self, call: AttemptCall, cause: str) -> None:
        self.causes.append(cause)

    def before_task(self, call: TaskCall) -> None:
        self.calls.append(("before", call))

    def after_task(self, call: TaskCall) -> None:
        self.calls.append(("after", call))

    def task_failed(self, call: TaskCall, error: BaseException) -> None:
        self.calls.append(("failed", call))
        self.errors.append(error)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.job("report", retry=RetryPolicy({"error": 2}, backoff_seconds=0))(lambda _ctx, payload: 1 // payload)
    made.task("note")(lambda _ctx, payload: 1 // payload)
    made.task("send.*")(lambda _ctx, _payload: None)

    @made.job("areport", retry=RetryPolicy({"error": 1}))
    async def areport(ctx: Any, payload: Any) -> Any:
        await asyncio.sleep(0)
        return 1 // payload

    @made.task("anote")
    async def anote(ctx: Any, payload: Any) -> Any:
        await asyncio.sleep(0)
        return 1 // payload

    return made


@pytest.fixture
def noted(registry: Registry) -> Noted:
    made = Noted()
    registry.add_middleware(made)
    return made


@pytest.fixture
def runner(registry: Registry) -> Iterator[MemoryRunner]:
    made = MemoryRunner(Settings(), registry)
    with use_runner(made):
        yield made


def _in_a_batch(job: JobData) -> Any:
    with batch("march") as march:
        return march.dispatch_job(job)


@pytest.mark.parametrize(
    "dispatch",
    [
        pytest.param(dispatch_job, id="dispatch_job"),
        pytest.param(lambda job: dispatch_jobs([job])[0], id="dispatch_jobs"),
        pytest.param(_in_a_batch, id="in a batch"),
        pytest.param(lambda job: asyncio.run(adispatch_job(job)), id="adispatch_job"),
        pytest.param(lambda job: asyncio.run(adispatch_jobs([job]))[0], id="adispatch_jobs"),
    ],
)
def test_every_function_that_dispatches_jobs_calls_the_hooks(
    dispatch: Callable[[JobData], Any], noted: Noted, runner: Runner
) -> None:
    row = dispatch(JobData("report", 1))
    (before, call), (after, same) = noted.dispatches
    assert (before, after, call) == ("before", "after", same)
    assert [(job.job_type, job.payload) for job in call.jobs] == [("report", 1)]
    assert [item.id for item in call.rows] == [row.id]
    with pytest.raises(InvalidPayload):
        dispatch(JobData("report", object()))
    assert [what for what, _ in noted.dispatches[2:]] == ["before", "InvalidPayload"]


@pytest.mark.parametrize(
    "dispatch", [dispatch_jobs, lambda jobs: asyncio.run(adispatch_jobs(jobs))], ids=["def", "async"]
)
def test_the_hooks_do_not_use_up_an_iterator_of_jobs(
    dispatch: Callable[[Any], Any], noted: Noted, runner: MemoryRunner
) -> None:
    rows = dispatch(JobData("report", number) for number in (1, 2))
    assert [row.payload for row in rows] == ["1", "2"]
    assert [job.id for job in runner.jobs] == [row.id for row in rows]
    assert [job.payload for job in noted.dispatches[0][1].jobs] == [1, 2]


@pytest.mark.parametrize(
    "dispatch", [dispatch_task, lambda name, payload: asyncio.run(adispatch_task(name, payload))], ids=["def", "async"]
)
def test_every_function_that_dispatches_tasks_calls_the_hooks(
    dispatch: Callable[[str, Any], Any], noted: Noted, runner: Runner
) -> None:
    dispatch("note", 1)
    assert [(what, call.task, call.payload, call.jobs) for what, call in noted.dispatches] == [
        ("before", "note", 1, ()),
        ("after", "note", 1, ()),
    ]
    with pytest.raises(InvalidPayload):
        dispatch("note", object())
    assert [what for what, _ in noted.dispatches[2:]] == ["before", "InvalidPayload"]


def test_a_runner_of_your_own_calls_the_hooks_of_the_default_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        def fully_configured(self) -> bool:
            return True

        def dispatch_job(self, job_data: JobData, *, session: Any = None) -> Any:
            return job_data

        def dispatch_task(self, name: Any, payload: Any = None, *, session: Any = None) -> None: ...

    noted = Noted()
    monkeypatch.setattr(default, "middleware", [noted])
    with use_runner(Own()):  # type: ignore[arg-type]
        dispatch_job(JobData("anything"))
        dispatch_task("anything")
    assert [what for what, _ in noted.dispatches] == ["before", "after"] * 2


@pytest.mark.parametrize("job_type", ["report", "areport"])
def test_each_attempt_of_a_job_calls_the_hooks(job_type: str, noted: Noted, runner: MemoryRunner) -> None:
    good, bad = dispatch_job(JobData(job_type, 1)), dispatch_job(JobData(job_type, 0))
    runner.drain()
    attempts = 2 if job_type == "report" else 1
    seen = [
        (what, call.job.id, call.attempt, call.payload) for what, call in noted.calls if isinstance(call, AttemptCall)
    ]
    assert sorted(seen, key=lambda item: (item[1], item[2])) == [
        ("before", good.id, 1, 1),
        ("after", good.id, 1, 1),
        *((what, bad.id, number, 0) for number in range(1, attempts + 1) for what in ("before", "failed")),
    ]
    assert [type(error) for error in noted.errors] == [ZeroDivisionError] * attempts
    assert sorted(noted.causes) == ["", *["JobError"] * attempts]
    assert all(call.ctx.job.id == call.job.id for _, call in noted.calls if isinstance(call, AttemptCall))


def test_when_the_end_is_recorded_the_ledger_shows_it(registry: Registry, runner: MemoryRunner) -> None:
    states: list[str] = []

    class Looks(Middleware):
        def after_attempt(self, call: AttemptCall) -> None:
            states.append(str(runner.jobs[0].state))

        def attempt_recorded(self, call: AttemptCall, cause: str) -> None:
            states.append(str(runner.jobs[0].state))

    registry.add_middleware(Looks())
    dispatch_job(JobData("report", 1))
    runner.drain()
    assert states == ["running", "succeeded"]


def test_middleware_that_is_added_after_a_declaration_counts_as_well(runner: MemoryRunner, noted: Noted) -> None:
    dispatch_task("send.mail")
    runner.drain()
    assert [(what, call.name, call.pattern) for what, call in noted.calls if isinstance(call, TaskCall)] == [
        ("before", "send.mail", "send.*"),
        ("after", "send.mail", "send.*"),
    ]


@pytest.mark.parametrize("name", ["note", "anote"])
def test_tasks_of_the_legacy_runner_call_the_hooks(
    name: str, registry: Registry, noted: Noted, sqlite_ledger_url: str
) -> None:
    legacy = LegacyRunner(Settings(database_url=sqlite_ledger_url, tasks_sync=True), registry)  # type: ignore[arg-type]
    with use_runner(legacy):
        dispatch_task(name, 1)
        dispatch_task(name, 0)
    legacy.close()
    assert [what for what, _ in noted.calls] == ["before", "after", "before", "failed"]


@pytest.mark.parametrize("name", ["note", "anote"])
@pytest.mark.parametrize(("payload", "outcome"), [("1", TaskOutcome.DONE), ("0", TaskOutcome.FAILED)])
def test_tasks_of_the_task_server_call_the_hooks(
    name: str, payload: str, outcome: TaskOutcome, registry: Registry, noted: Noted
) -> None:
    run = TaskRun(Task("id-1", name, payload, attempt=1), registry.tasks.get(name), Session)
    ended = asyncio.run(_awaited(run_async(run))) if name == "anote" else run_def(run)
    assert ended.outcome is outcome
    assert [what for what, _ in noted.calls] == ["before", "after" if outcome is TaskOutcome.DONE else "failed"]
    call = noted.calls[0][1]
    assert isinstance(call, TaskCall)
    assert (call.id, call.name, call.attempt, call.payload, call.ctx.id) == ("id-1", name, 1, int(payload), "id-1")


def test_hooks_of_a_task_run_in_the_thread_of_the_task(registry: Registry, runner: MemoryRunner) -> None:
    threads: list[int] = []
    registry.task("thread")(lambda _ctx: threads.append(threading.get_ident()))

    class Thread(Middleware):
        def before_task(self, call: TaskCall) -> None:
            threads.append(threading.get_ident())

    registry.add_middleware(Thread())
    dispatch_task("thread")
    runner.drain()
    assert len(set(threads)) == 1


@pytest.mark.parametrize("given", [Middleware, object(), None])
def test_what_is_no_middleware_is_refused_where_it_is_added(given: Any) -> None:
    with pytest.raises(RegistrationError, match=r"give an object of a class that inherits from spoke_jobs\.Middleware"):
        Registry().add_middleware(given)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
