"""The middleware that makes spans of dispatches, attempts and tasks.

A dispatch makes a span of the kind PRODUCER, whose context is kept in the job's row or the task. Each attempt makes one
of the kind CONSUMER, with a link to that context, and by default in the same trace. Baggage is neither kept nor passed
on: it may hold secrets, and whoever can read the row could read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Status, StatusCode

from spoke_jobs.contract.trace_context import span_context_of
from spoke_jobs.middleware.hooks import TRACE_ID, AttemptCall, DispatchCall, Middleware, TaskCall
from spoke_jobs.shared.otel_setup import TRACER, flush, set_up
from spoke_jobs.tracing import span_values
from spoke_jobs.tracing.span_values import CAUSE, ERROR_TYPE, MESSAGE_ID, Operation, SpanValues

_KEY = "spoke_jobs.span"
_FLUSH_SECONDS = 2.0
Pattern = Callable[[DispatchCall], str]
"""Returns the name of a dispatch's declaration if it stands for many types, else an empty string."""


@dataclass(slots=True)
class _Active:
    """A span that is the current one."""

    span: Span
    token: Any
    """Restores the context that was current before."""
    ended_at: int = 0
    """In nanoseconds since 1970; 0 before its end."""


class TracingMiddleware(Middleware):
    """Makes the spans.

    :param joined: whether attempts and tasks belong to the trace of their dispatch. If not, each begins a trace of its
        own. They have a link to the dispatch either way.
    """

    def __init__(
        self, *, joined: bool, pattern: Pattern = lambda _call: "", provider: trace.TracerProvider | None = None
    ) -> None:
        self._joined = joined
        self._pattern = pattern
        self._tracer = trace.get_tracer(TRACER, tracer_provider=provider)
        self._provider = provider

    def before_dispatch(self, call: DispatchCall) -> None:
        """Start the span of a dispatch. Its context becomes that of the jobs and tasks which have no other one."""
        values = span_values.of_dispatch(call, self._pattern(call))
        given = (span_context_of(job.traceparent) for job in call.jobs)
        links = [Link(context) for context in given if context is not None]
        span = self._tracer.start_span(values.name, kind=SpanKind.PRODUCER, attributes=values.attributes, links=links)
        call.state[_KEY] = _Active(span, attach(trace.set_span_in_context(span)))

    def after_dispatch(self, call: DispatchCall) -> None:
        """End the span."""
        if len(call.rows) == 1:
            call.state[_KEY].span.set_attributes(span_values.of_row(call.rows[0]))
        _end(call.state[_KEY])

    def dispatch_failed(self, call: DispatchCall, error: BaseException) -> None:
        """End the span as failed."""
        _end(call.state[_KEY], error)

    def before_attempt(self, call: AttemptCall) -> None:
        """Start the span of an attempt."""
        traceparent = call.job.options.traceparent
        active = self._consume(call, span_values.of_attempt(Operation.PROCESS, call), traceparent)
        if call.asked_at is not None:
            now = time.time_ns()
            began = now - int(max(0.0, time.monotonic() - call.asked_at) * 1e9)
            creation = span_context_of(traceparent) if self._joined else None
            within = active.span if creation is None else NonRecordingSpan(creation)
            self._note(span_values.of_attempt(Operation.CLAIM, call), within, began).end(now)

    def after_attempt(self, call: AttemptCall) -> None:
        """End the span."""
        _end(call.state[_KEY])

    def attempt_failed(self, call: AttemptCall, error: BaseException) -> None:
        """End the span as failed."""
        _end(call.state[_KEY], error)

    def attempt_recorded(self, call: AttemptCall, cause: str) -> None:
        """Note how long it took to record the attempt's end."""
        active: _Active = call.state[_KEY]
        span = self._note(span_values.of_attempt(Operation.COMPLETE, call), active.span, active.ended_at)
        if cause:
            span.set_attribute(CAUSE, cause)
        span.end()

    def before_task(self, call: TaskCall) -> None:
        """Start the span of a task."""
        self._consume(call, span_values.of_task(call), call.traceparent)

    def after_task(self, call: TaskCall) -> None:
        """End the span."""
        _end(call.state[_KEY])

    def task_failed(self, call: TaskCall, error: BaseException) -> None:
        """End the span as failed."""
        _end(call.state[_KEY], error)

    def close(self) -> None:
        """Send the spans that are still in memory."""
        flush(_FLUSH_SECONDS, self._provider)

    def _consume(self, call: AttemptCall | TaskCall, values: SpanValues, traceparent: str | None) -> _Active:
        """Start the span of a function that is called now, in a context without baggage, and keep it with the call."""
        creation, around = span_context_of(traceparent), trace.get_current_span().get_span_context()
        attributes = {MESSAGE_ID: values.attributes[MESSAGE_ID]}
        links = [] if creation is None else [Link(creation, attributes)]
        if around.is_valid and (creation is None or around.span_id != creation.span_id):
            links.append(Link(around))  # the function is called within another span, whose process runs its own jobs
        parent = Context()
        if self._joined and creation is not None:
            parent = trace.set_span_in_context(NonRecordingSpan(creation), parent)
        span = self._tracer.start_span(
            values.name, parent, kind=SpanKind.CONSUMER, attributes=values.attributes, links=links
        )
        context = span.get_span_context()
        if span.is_recording() and context.trace_flags.sampled:
            call.state[TRACE_ID] = trace.format_trace_id(context.trace_id)
        active = call.state[_KEY] = _Active(span, attach(trace.set_span_in_context(span, Context())))
        return active

    def _note(self, values: SpanValues, within: Span, began: int) -> Span:
        """Start a span about an exchange with the database that began earlier."""
        context = trace.set_span_in_context(within, Context())
        return self._tracer.start_span(
            values.name, context, kind=SpanKind.CLIENT, attributes=values.attributes, start_time=began
        )


def _end(active: _Active, error: BaseException | None = None) -> None:
    """End a span, and restore the context in which it was started."""
    if error is not None and (kind := span_values.error_type(error)):
        active.span.set_attribute(ERROR_TYPE, kind)
        active.span.set_status(Status(StatusCode.ERROR))
    detach(active.token)
    active.ended_at = time.time_ns()
    active.span.end(active.ended_at)


def add_tracing(middleware: list[Middleware], pattern: Pattern, *, joined: bool) -> None:
    """Add the spans to an application's middleware, unless it has them. They are around all other hooks.

    :raises LookupError: if an exporter that the environment names is not installed.
    """
    if not any(isinstance(item, TracingMiddleware) for item in middleware):
        set_up()
        middleware.insert(0, TracingMiddleware(joined=joined, pattern=pattern))
