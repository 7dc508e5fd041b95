"""Take the W3C trace context of a dispatch, without a dependency on OpenTelemetry.

A job belongs to the trace in which it was dispatched. Its pod gets the context as ``TRACEPARENT``, the variable that
OpenTelemetry's tools read.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TypeGuard

from spoke_jobs.shared.validation_text import wrong

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SAMPLED = 1
"""The flag of a traceparent by which its trace is sampled."""

MEANING = (
    "The W3C trace context of the dispatch. The default is the context of the current OpenTelemetry span, if there is "
    "one. The job's pod gets it as `TRACEPARENT`."
)


def check_trace(value: object) -> str:
    """Return what is wrong with a job option's value; empty if it is valid."""
    return (
        "" if is_traceparent(value) else wrong(value, "a W3C traceparent such as 00-<32 hex digits>-<16 hex digits>-01")
    )


def is_traceparent(value: object) -> TypeGuard[str]:
    """Whether the value is a valid traceparent (w3.org/TR/trace-context)."""
    return isinstance(value, str) and _TRACEPARENT.fullmatch(value) is not None


def trace_id_of(traceparent: object) -> str:
    """Return the id of the trace, 32 hexadecimal digits; empty if the traceparent is not valid."""
    return traceparent[3:35] if is_traceparent(traceparent) else ""


def sampled_trace_id_of(traceparent: object) -> str:
    """Return the id of the trace if it is sampled; empty if it is not, or if the traceparent is not valid."""
    return trace_id_of(traceparent) if is_traceparent(traceparent) and int(traceparent[-2:], 16) & _SAMPLED else ""


def is_trace_id(value: object) -> TypeGuard[str]:
    """Whether the value is a valid id of a trace."""
    return isinstance(value, str) and _TRACE_ID.fullmatch(value) is not None


def span_context_of(traceparent: object) -> SpanContext | None:
    """Return the context of a traceparent for OpenTelemetry, which must be installed; None if it is not valid."""
    if not isinstance(traceparent, str) or not is_traceparent(traceparent):
        return None
    from opentelemetry.trace import SpanContext, TraceFlags  # few processes need it

    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def current_traceparent() -> str | None:
    """Return the traceparent of the current span; None if there is no span.

    If the application has not imported OpenTelemetry, there is no span, and nothing is imported here.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0xFF:02x}"
    except Exception:  # a foreign or half-imported module must not prevent a dispatch
        return None
    return traceparent if is_traceparent(traceparent) else None
