"""Make OpenTelemetry spans of the attempts of SpokeJobs that were dispatched in a trace.

Import this module only if traces are on. Nothing waits for a span: the SDK sends them on a thread of its own.
"""

from __future__ import annotations

from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Status, StatusCode

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.trace_context import span_context_of
from spoke_jobs.shared.otel_setup import TRACER, flush, set_up
from spoke_jobs_operator.core.reporting.job_spans import JobSpan

_FLUSH_SECONDS = 2.0
_LARGEST = 2**63 - 1


class SpanRecorder:
    """Gives spans to OpenTelemetry.

    :param provider: by default the process's, which is set up by OpenTelemetry's variables.
    :raises LookupError: if an exporter that the environment names is not installed.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        if provider is None:
            set_up()
        self._provider = provider
        self._tracer = trace.get_tracer(TRACER, tracer_provider=provider)

    def record(self, spokejob: SpokeJob, spans: tuple[JobSpan, ...]) -> None:
        """Make spans in the trace of the dispatch. A SpokeJob without one has no spans."""
        creation = span_context_of(spokejob.spec.traceparent)
        if creation is None:
            return
        context = trace.set_span_in_context(NonRecordingSpan(creation), Context())
        for item in spans:
            span = self._tracer.start_span(
                item.name.value, context, attributes=item.attributes, start_time=_nanoseconds(item.begins)
            )
            if item.cause:
                span.set_attribute("error.type", item.cause)
                span.set_status(Status(StatusCode.ERROR))
            span.end(_nanoseconds(item.ends))

    def close(self) -> None:
        """Send what is still in memory, for at most 2 s."""
        flush(_FLUSH_SECONDS, self._provider)


def _nanoseconds(moment: datetime) -> int:
    """Return nanoseconds since 1970, as far as OTLP can send them: pods' statuses may hold any time."""
    return min(max(0, int(moment.timestamp() * 1_000_000) * 1_000), _LARGEST)
