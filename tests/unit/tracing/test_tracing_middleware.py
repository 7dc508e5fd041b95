"""One trace from a dispatch to the end of all that follows from it, with the parents and links of the conventions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr
from tests.unit.tracing.traced import Traced, application, context_of, linked, parent_of

from spoke_jobs import (
    InvalidPayload,
    JobData,
    Middleware,
    Registry,
    adispatch_job,
    dispatch_job,
    dispatch_jobs,
    dispatch_task,
    use_runner,
)
from spoke_jobs.middleware.hooks import AttemptCall
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.protocol.messages import Task
from spoke_jobs.tasks.server.task_run import TaskRun, run_def
from spoke_jobs.tracing.tracing_middleware import TracingMiddleware

OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
def registry() -> Registry:
    return application()


@pytest.fixture
def runner(registry: Registry, traced: Traced) -> Iterator[MemoryRunner]:
    traced.middleware(registry)
    made = MemoryRunner(Settings(), registry)
    with use_runner(made):
        yield made


@pytest.mark.parametrize("job_type", ["import", "aimport"])
def test_a_job_its_retry_and_the_task_that_it_dispatches_are_one_trace(
    job_type: str, runner: MemoryRunner, traced: Traced
) -> None:
    with traced.provider.get_tracer("web").start_as_current_span("POST /upload") as request:
        if job_type == "import":
            row = dispatch_job(JobData("import", {}))
        else:
            row = asyncio.run(adispatch_job(JobData("aimport", {})))
    runner.drain()
    send, first, second = traced.one(f"send {job_type}"), *traced.named(f"process {job_type}")
    task_sent, task_run = traced.one("send send.*"), traced.one("process send.*")
    assert {context_of(span).trace_id for span in traced.spans} == {request.get_span_context().trace_id}
    assert [parent_of(span) for span in (send, first, second, task_sent, task_run)] == [
        request.get_span_context().span_id,
        context_of(send).span_id,
        context_of(send).span_id,
        context_of(second).span_id,
        context_of(task_sent).span_id,
    ]
    assert [linked(span) for span in (send, first, second, task_sent, task_run)] == [
        [],
        [context_of(send).span_id],
        [context_of(send).span_id],
        [],
        [context_of(task_sent).span_id],
    ]
    kinds = [span.kind for span in (send, first, second, task_sent, task_run)]
    assert kinds == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CONSUMER, SpanKind.PRODUCER, SpanKind.CONSUMER]
    assert (send.attributes or {})["messaging.message.id"] == str(row.uid)
    assert [(span.attributes or {})["messaging.spoke_jobs.attempt"] for span in (first, second)] == [1, 2]


def test_a_failed_attempt_shows_the_class_of_its_error_and_no_text(runner: MemoryRunner, traced: Traced) -> None:
    dispatch_job(JobData("import", {"phone": "+15550100"}))
    runner.drain()
    first, second = traced.named("process import")
    assert (first.attributes or {})["error.type"] == "ValueError"
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, None)
    assert "error.type" not in (second.attributes or {})
    assert second.status.status_code is StatusCode.UNSET
    assert "+15550100" not in "".join(span.to_json() for span in traced.spans)


def test_an_attempt_that_asks_to_run_later_has_not_failed(runner: MemoryRunner, traced: Traced) -> None:
    dispatch_job(JobData("later"))
    runner.drain()
    assert [span.status.status_code for span in traced.named("process later")] == [StatusCode.UNSET] * 2


def test_the_end_of_an_attempt_is_within_its_span(runner: MemoryRunner, traced: Traced) -> None:
    dispatch_job(JobData("import", {}))
    runner.drain()
    attempts, ends = traced.named("process import"), traced.named("complete import")
    assert [parent_of(span) for span in ends] == [context_of(span).span_id for span in attempts]
    assert [(span.attributes or {}).get("messaging.spoke_jobs.cause") for span in ends] == ["JobError", None]
    for attempt, end in zip(attempts, ends, strict=True):
        assert end.kind is SpanKind.CLIENT
        assert end.start_time == attempt.end_time
        assert (end.end_time or 0) >= (end.start_time or 0)


def test_the_claim_is_shown_from_its_request_to_the_start_of_the_function(registry: Registry, traced: Traced) -> None:
    middleware = traced.middleware(registry)
    row = MemoryRunner(Settings(), registry).dispatch_job(JobData("import", {}, traceparent=OTHER))
    middleware.before_attempt(call := AttemptCall(row, 1, {}, None, asked_at=time.monotonic() - 5))
    middleware.after_attempt(call)
    claim, attempt = traced.one("claim import"), traced.one("process import")
    assert claim.kind is SpanKind.CLIENT
    assert parent_of(claim) == parent_of(attempt) == 0x2222222222222222
    assert claim.start_time is not None
    assert claim.end_time is not None
    assert 5e9 <= claim.end_time - claim.start_time < 60e9
    assert claim.end_time <= (attempt.end_time or 0)


def test_without_a_trace_of_the_dispatch_an_attempt_begins_one(registry: Registry, traced: Traced) -> None:
    middleware = traced.middleware(registry)
    row = MemoryRunner(Settings(), registry).dispatch_job(JobData("import", {}))
    middleware.before_attempt(call := AttemptCall(row, 1, {}, None, asked_at=time.monotonic()))
    middleware.after_attempt(call)
    claim, attempt = traced.one("claim import"), traced.one("process import")
    assert (attempt.parent, linked(attempt)) == (None, [])
    assert parent_of(claim) == context_of(attempt).span_id


def test_linked_attempts_begin_traces_of_their_own(registry: Registry, traced: Traced) -> None:
    traced.middleware(registry, joined=False)
    runner = MemoryRunner(Settings(), registry)
    with use_runner(runner):
        dispatch_job(JobData("import", {}))
        runner.drain()
    send, attempts = traced.one("send import"), traced.named("process import")
    assert len({context_of(span).trace_id for span in (send, *attempts)}) == 3
    assert [linked(span) for span in attempts] == [[context_of(send).span_id]] * 2
    task = traced.one("process send.*")
    assert (task.parent, linked(task)) == (None, [context_of(traced.one("send send.*")).span_id])
    assert context_of(traced.one("send send.*")).trace_id == context_of(attempts[1]).trace_id


def test_a_context_that_the_dispatch_is_given_is_kept(runner: MemoryRunner, traced: Traced) -> None:
    row = dispatch_job(JobData("import", {}, traceparent=OTHER))
    runner.drain()
    assert row.options.traceparent == OTHER
    send, first = traced.one("send import"), traced.named("process import")[0]
    assert linked(send) == [0x2222222222222222]
    assert (send.parent, parent_of(first), linked(first)) == (None, 0x2222222222222222, [0x2222222222222222])


def test_jobs_that_are_dispatched_together_share_one_span(runner: MemoryRunner, traced: Traced) -> None:
    rows = dispatch_jobs([JobData("ingest.csv"), JobData("ingest.json")])
    send = traced.one("send")
    assert len({row.options.traceparent for row in rows}) == 1
    assert (send.attributes or {})["messaging.batch.message_count"] == 2
    runner.drain()
    assert [parent_of(span) for span in traced.named("process ingest.*")] == [context_of(send).span_id] * 2


def test_a_dispatch_that_is_refused_has_failed(runner: MemoryRunner, traced: Traced) -> None:
    with pytest.raises(InvalidPayload):
        dispatch_job(JobData("import", object()))
    span = traced.one("send import")
    assert (span.attributes or {})["error.type"] == "spoke_jobs.errors.InvalidPayload"
    assert span.status.status_code is StatusCode.ERROR
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_job_that_another_job_dispatches_is_a_child_of_its_attempt(runner: MemoryRunner, traced: Traced) -> None:
    dispatch_job(JobData("parent"))
    runner.drain()
    assert parent_of(traced.one("send later")) == context_of(traced.one("process parent")).span_id


def test_what_is_not_sampled_at_the_dispatch_is_not_sampled_later(registry: Registry, traced: Traced) -> None:
    runner = MemoryRunner(Settings(), registry)
    registry.add_middleware(TracingMiddleware(joined=True, provider=TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)))
    with use_runner(runner):
        row = dispatch_job(JobData("import", {}))
        registry.middleware.clear()
        traced.middleware(registry)  # of the process that runs the job
        runner.drain()
    assert row.options.traceparent is not None
    assert row.options.traceparent.endswith(("0", "2"))
    assert traced.spans == []


def test_baggage_reaches_neither_the_row_nor_the_function(
    registry: Registry, traced: Traced, sqlite_ledger_url: str
) -> None:
    seen: list[object] = []
    registry.job("looks")(lambda _ctx: seen.append(dict(baggage.get_all())))
    traced.middleware(registry)
    settings = Settings(database_url=SecretStr(sqlite_ledger_url), jobs_same_process=True, jobs_sync=True)
    runner = LegacyRunner(settings, registry)
    token = context.attach(baggage.set_baggage("session", "secret"))
    try:
        with use_runner(runner):
            row = dispatch_job(JobData("looks"))
            assert baggage.get_baggage("session") == "secret"
    finally:
        context.detach(token)
        runner.close()
    assert seen == [{}]
    assert "secret" not in repr(row)


def test_a_function_that_is_called_within_another_span_has_a_link_to_it(registry: Registry, traced: Traced) -> None:
    """The task server may have spans of its own requests."""
    traced.middleware(registry)
    run = TaskRun(Task("1", "send.mail", "{}", traceparent=OTHER), registry.tasks.get("send.mail"))
    with traced.provider.get_tracer("server").start_as_current_span("POST /v1/tasks") as around:
        run_def(run)
        assert trace.get_current_span() is around
    task = traced.one("process send.*")
    assert parent_of(task) == 0x2222222222222222
    assert linked(task) == [0x2222222222222222, around.get_span_context().span_id]


def test_a_task_that_fails_shows_it(runner: MemoryRunner, traced: Traced) -> None:
    dispatch_task("fails")
    with pytest.raises(ConnectionError):
        runner.drain()
    assert (traced.one("process fails").attributes or {})["error.type"] == "ConnectionError"


def test_the_hooks_of_the_application_run_within_the_span(registry: Registry, traced: Traced) -> None:
    seen: list[int] = []

    class Looks(Middleware):
        def before_attempt(self, call: Any) -> None:
            seen.append(trace.get_current_span().get_span_context().span_id)

    traced.middleware(registry)
    registry.add_middleware(Looks())
    runner = MemoryRunner(Settings(), registry)
    runner.dispatch_job(JobData("later"))
    runner.drain()
    assert seen == [context_of(span).span_id for span in traced.named("process later")]


@pytest.mark.parametrize("traceparent", ["", "x", "00-0-0-0", OTHER[:-1], None])
def test_a_context_that_other_code_wrote_and_is_not_valid_counts_as_none(
    traceparent: Any, registry: Registry, traced: Traced
) -> None:
    traced.middleware(registry)
    run = TaskRun(Task("1", "send.mail", "{}", traceparent=traceparent), registry.tasks.get("send.mail"))
    run_def(run)
    assert traced.one("process send.*").parent is None
