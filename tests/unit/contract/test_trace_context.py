"""The trace context of a dispatch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from spoke_jobs import InvalidJobData, JobData, Registry
from spoke_jobs.contract.trace_context import current_traceparent, is_traceparent, span_context_of, trace_id_of
from spoke_jobs.model import NewJob
from spoke_jobs.runners.prepare import prepare_job

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def dispatched(traceparent: str | None = None) -> NewJob:
    registry = Registry()
    registry.job("noop")(lambda _ctx, _payload: None)
    return prepare_job(JobData("noop", traceparent=traceparent), registry, runner="kubernetes")


def in_span(trace_id: int, span_id: int, flags: int = 1) -> trace.NonRecordingSpan:
    return trace.NonRecordingSpan(trace.SpanContext(trace_id, span_id, False, trace.TraceFlags(flags)))


def test_a_dispatch_within_a_span_belongs_to_its_trace() -> None:
    assert dispatched().options.traceparent is None
    with trace.use_span(in_span(TRACE, SPAN)):
        assert dispatched().options.traceparent == TRACEPARENT
        other = TRACEPARENT.replace("4b", "5b")
        assert dispatched(other).options.traceparent == other, "what the caller says counts"
    assert dispatched().options.traceparent is None


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255))
def test_any_span_gives_a_valid_traceparent_or_none(trace_id: int, span_id: int, flags: int) -> None:
    with trace.use_span(in_span(trace_id, span_id, flags)):
        found = current_traceparent()
    if trace_id and span_id:
        assert is_traceparent(found)
    else:
        assert found is None


@pytest.mark.parametrize(
    "value", ["", "x", TRACEPARENT.upper(), TRACEPARENT + "-00", "ff" + TRACEPARENT[2:], f"00-{'0' * 32}-{'1' * 16}-01"]
)
def test_what_is_no_traceparent_is_refused_with_its_value(value: str) -> None:
    with pytest.raises(InvalidJobData, match="traceparent"):
        dispatched(value)


@pytest.mark.parametrize("value", ["", "x", None, 7, TRACEPARENT.upper(), f"00-{'0' * 32}-{'1' * 16}-01"])
def test_what_is_no_traceparent_names_no_trace(value: object) -> None:
    assert (trace_id_of(value), span_context_of(value)) == ("", None)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_traceparent_is_read_as_it_was_written(trace_id: int, span_id: int, flags: int) -> None:
    with trace.use_span(in_span(trace_id, span_id, flags)):
        written = current_traceparent()
    read = span_context_of(written)
    assert read is not None
    assert (read.trace_id, read.span_id, int(read.trace_flags), read.is_remote) == (trace_id, span_id, flags, True)
    assert trace_id_of(written) == f"{trace_id:032x}"


def test_a_foreign_module_of_that_name_prevents_no_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())  # type: ignore[arg-type]
    assert dispatched().options.traceparent is None


def test_a_dispatch_imports_no_opentelemetry() -> None:
    code = """
import sys
from spoke_jobs import JobData, Registry
from spoke_jobs.runners.prepare import prepare_job
registry = Registry()
registry.job("noop")(lambda _ctx, _payload: None)
prepare_job(JobData("noop"), registry, runner="kubernetes")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
