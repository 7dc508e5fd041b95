"""The trace of a run, which the histograms of its wait and its run show as an exemplar."""

from __future__ import annotations

import asyncio
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from sqlalchemy.orm import Session
from tests.contract.ledger import claim_one, new_job
from tests.unit.tracing.traced import Traced, application, context_of

from spoke_jobs import Middleware, Registry
from spoke_jobs.execution.attempt import AttemptServices
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.middleware.hooks import TRACE_ID, TaskCall
from spoke_jobs.model import JobOptions
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome
from spoke_jobs.tasks.server.executor import ExecutorCounts, TaskExecutor
from spoke_jobs.tasks.server.task_run import TaskRun, run_def
from spoke_jobs.tracing.tracing_middleware import TracingMiddleware

OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
def registry() -> Registry:
    return application()


def ran(registry: Registry, traceparent: str) -> TaskRun:
    """A task that has run."""
    run = TaskRun(Task("1", "send.mail", "{}", traceparent=traceparent), registry.tasks.get("send.mail"))
    run_def(run)
    return run


@pytest.mark.parametrize(("joined", "traceparent"), [(True, OTHER), (True, ""), (False, OTHER), (False, "")])
def test_the_trace_of_a_run_is_known_for_exemplars(
    joined: bool, traceparent: str, registry: Registry, traced: Traced
) -> None:
    traced.middleware(registry, joined=joined)
    run = ran(registry, traceparent)
    assert run.trace_id == trace.format_trace_id(context_of(traced.one("process send.*")).trace_id)
    assert (run.trace_id == "1" * 32) == (joined and traceparent == OTHER)


class RecordsOnly(Sampler):
    """For span processors that nobody sends spans from."""

    def should_sample(self, *_arguments: object, **_more: object) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordsOnly"


@pytest.mark.parametrize(
    "provider",
    [TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), TracerProvider(RecordsOnly(), shutdown_on_exit=False),
     trace.NoOpTracerProvider()],
    ids=["not sampled", "recorded only", "without an SDK"],
)  # fmt: skip
def test_a_run_whose_span_is_not_sent_has_no_exemplar(provider: trace.TracerProvider, registry: Registry) -> None:
    registry.add_middleware(TracingMiddleware(joined=True, provider=provider))
    assert ran(registry, OTHER).trace_id == ""


def test_a_run_without_the_middleware_has_no_exemplar(registry: Registry, traced: Traced) -> None:
    with traced.provider.get_tracer("server").start_as_current_span("POST /v1/tasks"):
        assert ran(registry, OTHER).trace_id == ""


@pytest.mark.parametrize("job_type", ["import", "aimport", "later"])
def test_an_attempt_s_end_names_its_trace(job_type: str, registry: Registry, traced: Traced) -> None:
    traced.middleware(registry)
    ledger = MemoryLedger()
    ledger.insert(new_job(job_type=job_type, options=JobOptions(traceparent=OTHER)))
    claim = claim_one(ledger, "legacy", [job_type], "w", 30)
    assert claim is not None
    services = AttemptServices(ledger, registry, Session, decide=True, on_stop=lambda _reason: None)
    end = run_attempt(claim, services, threading.Event())
    assert end.trace_id == "1" * 32, "whether it fails or asks to be run again"


def test_what_a_middleware_of_the_application_keeps_there_is_no_exemplar(registry: Registry) -> None:
    class Keeps(Middleware):
        def before_task(self, call: TaskCall) -> None:
            call.state[TRACE_ID] = "x" * 10_000

    registry.add_middleware(Keeps())
    assert ran(registry, OTHER).trace_id == ""


@pytest.mark.parametrize(("name", "outcome"), [("send.mail", TaskOutcome.DONE), ("fails", TaskOutcome.FAILED)])
def test_the_task_server_s_histograms_have_it(
    name: str, outcome: TaskOutcome, registry: Registry, traced: Traced
) -> None:
    traced.middleware(registry)

    async def run() -> ExecutorCounts:
        executor = TaskExecutor(registry, concurrency=1, limit=10)
        executor.start()
        ended: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()
        executor.accept(Task("1", name, "{}", traceparent=OTHER), ended.set_result)
        assert (await ended).outcome is outcome
        await executor.finish(1)
        return executor.counts

    counts = asyncio.run(run())
    for histogram in (counts.waited, counts.ran):
        assert [exemplar.trace_id for exemplar in histogram.exemplars.values()] == ["1" * 32]
