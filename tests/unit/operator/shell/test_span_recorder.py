"""The operator's spans belong to the trace of the dispatch, and only to one that is sampled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import StatusCode
from tests.unit.operator.core.objects import NOW
from tests.unit.operator.core.test_job_spans import EMPTY, spokejob
from tests.unit.operator.simulation import start

from spoke_jobs_operator.core.reporting.job_spans import JobSpan, SpanName
from spoke_jobs_operator.operator_settings import Settings
from spoke_jobs_operator.shell.process import operator_process
from spoke_jobs_operator.shell.process.operator_process import TracesUnavailable
from spoke_jobs_operator.shell.reporting.span_recorder import SpanRecorder

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SPANS = (
    JobSpan(SpanName.ADMIT, NOW, NOW + timedelta(seconds=2), {"messaging.spoke_jobs.job_id": 7}),
    JobSpan(SpanName.RUN_POD, NOW, NOW + timedelta(milliseconds=1500), {}, "OutOfMemory"),
)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def recorder(exporter: InMemorySpanExporter) -> Iterator[SpanRecorder]:
    provider = TracerProvider(DEFAULT_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield SpanRecorder(provider)
    provider.shutdown()


def record(recorder: SpanRecorder, traceparent: str) -> None:
    job = spokejob(EMPTY)
    traced = job.spec.model_copy(update={"traceparent": traceparent})
    recorder.record(job.model_copy(update={"spec": traced}), SPANS)


def test_spans_are_children_of_the_dispatch_with_their_own_times(
    recorder: SpanRecorder, exporter: InMemorySpanExporter
) -> None:
    record(recorder, f"00-{TRACE}-{SPAN}-01")
    admit, run = exporter.get_finished_spans()
    assert (admit.name, run.name) == ("admit", "run pod")
    for span in (admit, run):
        assert span.context is not None
        assert span.parent is not None
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
        assert span.start_time == int(NOW.timestamp()) * 10**9
    assert (admit.end_time or 0) - (admit.start_time or 0) == 2 * 10**9
    assert (run.end_time or 0) - (run.start_time or 0) == 1_500_000_000
    assert admit.status.status_code is StatusCode.UNSET
    assert (run.status.status_code, dict(run.attributes or {})) == (StatusCode.ERROR, {"error.type": "OutOfMemory"})
    recorder.close()


@pytest.mark.parametrize(("year", "nanoseconds"), [(1901, 0), (9999, 2**63 - 1)])
def test_a_time_that_cannot_be_sent_is_bounded(
    year: int, nanoseconds: int, recorder: SpanRecorder, exporter: InMemorySpanExporter
) -> None:
    far = NOW.replace(year=year)
    job = spokejob(EMPTY)
    traced = job.spec.model_copy(update={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    recorder.record(job.model_copy(update={"spec": traced}), (JobSpan(SpanName.RUN_POD, far, far, {}),))
    (span,) = exporter.get_finished_spans()
    assert (span.start_time, span.end_time) == (nanoseconds, nanoseconds)


@pytest.mark.parametrize("traceparent", ["", "x", "$(SPOKE_DATABASE_URL)", f"00-{TRACE}-{SPAN}-00"])
def test_a_job_that_is_in_no_sampled_trace_has_no_spans(
    traceparent: str, recorder: SpanRecorder, exporter: InMemorySpanExporter
) -> None:
    record(recorder, traceparent)
    assert exporter.get_finished_spans() == ()


def test_by_default_the_operator_imports_no_opentelemetry() -> None:
    code = (
        "import sys, spoke_jobs_operator.shell.process.operator_process as process\n"
        "from spoke_jobs_operator.operator_settings import Settings\n"
        "assert process._span_recorder(Settings()) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_exporter_that_is_not_installed_keeps_the_operator_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(TracesUnavailable, match="SPOKE_OPERATOR_TRACES=otel: the exporter of traces 'zipkin' is not"):
        operator_process._span_recorder(Settings(traces="otel"))


def test_each_attempt_of_a_traced_job_is_reported_once() -> None:
    traced = start(traceparent=f"00-{TRACE}-{SPAN}-01", retry={"backoffSeconds": 4, "jitter": 0})
    traced.world.room = 9  # the scheduler gives pods their node, and says when
    traced.cluster()
    traced.cluster(10)
    traced.pass_time(10)
    traced.cluster()
    traced.cluster(0)
    names = [(str(span.name), span.attributes["messaging.spoke_jobs.attempt"]) for span in traced.spans]
    assert names == [("admit", 1), ("schedule pod", 1), ("admit", 2), ("schedule pod", 2)]
    plain = start()
    plain.cluster()
    plain.cluster(0)
    assert plain.spans == []
