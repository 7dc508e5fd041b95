"""An application whose spans a test reads."""

from __future__ import annotations

import asyncio
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from spoke_jobs import JobData, Registry, RetryLater, RetryPolicy, dispatch_job, dispatch_task
from spoke_jobs.registry import Definition
from spoke_jobs.tracing.tracing_middleware import TracingMiddleware
from spoke_jobs.type_names import SUFFIX


class Traced:
    """The spans of one provider."""

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.provider = provider
        self._exporter = exporter

    def middleware(self, registry: Registry, *, joined: bool = True) -> TracingMiddleware:
        """Add the spans to the middleware of a registry."""

        def pattern(call: Any) -> str:
            found: Definition = registry.tasks.get(call.task) if call.task else registry.jobs.get(call.jobs[0].job_type)
            return found.name if found.name.endswith(SUFFIX) else ""

        made = TracingMiddleware(joined=joined, pattern=pattern, provider=self.provider)
        registry.add_middleware(made)
        return made

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their starts."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of a name."""
        (span,) = self.named(name)
        return span


def context_of(span: ReadableSpan) -> SpanContext:
    """The context of an ended span."""
    assert span.context is not None
    return span.context


def parent_of(span: ReadableSpan) -> int | None:
    """The id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that a span has links to."""
    return [link.context.span_id for link in span.links]


def application() -> Registry:
    """Jobs and tasks: the second attempt of `import` dispatches a task, and so does `import.later`."""
    registry = Registry()
    once_more = RetryPolicy({"error": 2}, backoff_seconds=0)

    @registry.job("import", retry=once_more)
    def import_(ctx: Any, payload: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError("+15550100 is no number")
        dispatch_task("send.mail", {"to": "+15550100"})

    @registry.job("aimport", retry=once_more)
    async def aimport(ctx: Any, payload: Any) -> None:
        await asyncio.sleep(0)
        import_(ctx, payload)

    @registry.job("later")
    def later(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise RetryLater(seconds=0)

    @registry.job("parent")
    def parent(_ctx: Any) -> None:
        dispatch_job(JobData("later"))

    registry.job("ingest.*")(lambda _ctx, _payload: None)
    registry.task("send.*")(lambda _ctx, _payload: None)

    @registry.task("fails")
    async def fails(_ctx: Any) -> None:
        raise ConnectionError("no answer")

    return registry
