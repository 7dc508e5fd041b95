"""OpenTelemetry is set up as its own environment variables say, by whom is first, and only where traces are on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.waiting import eventually, patient

from spoke_jobs.shared.otel_setup import exporter_names, flush

APP = """
import os
from spoke_jobs import job
if os.environ.get("OWN_PROVIDER"):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())

@job("report")
def report(ctx): ...
"""
LOADED = """
import sys
from spoke_jobs.registry import load_app
from spoke_jobs import ConfigurationError
try:
    registry = load_app("traced_app")
except ConfigurationError as error:
    print(error)
else:
    load_app("traced_app")
    there = any(name.startswith("opentelemetry") for name in sys.modules)
    print([type(item).__name__ for item in registry.middleware], there)
    if registry.middleware:
        from opentelemetry import trace
        print([type(item).__name__ for item in trace.get_tracer_provider()._active_span_processor._span_processors])
"""


def run(folder: Path, code: str = LOADED, **environment: str) -> str:
    (folder / "traced_app.py").write_text(APP)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPOKE_TRACES"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=plain | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=patient(60),
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ("otlp_proto_http",)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("otlp_proto_grpc",)),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ("otlp_proto_http",),
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp_proto_http")),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "console"}, ()),
    ],
)
def test_the_exporters_are_those_of_the_environment(environment: dict[str, str], names: tuple[str, ...]) -> None:
    assert exporter_names(environment) == names


def test_an_unknown_protocol_is_named_with_those_that_are() -> None:
    with pytest.raises(LookupError, match="OTEL_EXPORTER_OTLP_PROTOCOL=udp: .* set one of http/protobuf, grpc"):
        exporter_names({"OTEL_EXPORTER_OTLP_PROTOCOL": "udp"})


def test_by_default_nothing_is_imported(tmp_path: Path) -> None:
    assert run(tmp_path) == "[] False"


def test_a_setting_turns_the_spans_on_once(tmp_path: Path) -> None:
    text = run(tmp_path, SPOKE_TRACES="joined", OTEL_TRACES_EXPORTER="console")
    assert text == "['TracingMiddleware'] True\n['BatchSpanProcessor']"


def test_the_application_s_own_set_up_stays(tmp_path: Path) -> None:
    assert run(tmp_path, SPOKE_TRACES="linked", OWN_PROVIDER="yes") == "['TracingMiddleware'] True\n[]"


def test_an_exporter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    text = run(tmp_path, SPOKE_TRACES="joined", OTEL_TRACES_EXPORTER="zipkin")
    assert text.startswith("SPOKE_TRACES=joined: the exporter of traces 'zipkin' is not installed (installed: ")
    assert text.endswith("): install its package, or set OTEL_TRACES_EXPORTER")


def test_without_opentelemetry_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = f"import sys; sys.modules['opentelemetry'] = None\n{LOADED}"
    assert run(tmp_path, code, SPOKE_TRACES="joined") == (
        "SPOKE_TRACES=joined needs the Python package 'opentelemetry': pip install 'spoke-jobs[otel]'"
    )


DISPATCH = """
import time, traced_app
from spoke_jobs import JobData, close, dispatch_job
from spoke_jobs.registry import default
dispatch_job(JobData("report"))
"""


def test_a_process_that_only_dispatches_has_the_spans_too(tmp_path: Path, sqlite_ledger_url: str) -> None:
    environment = {"SPOKE_DATABASE_URL": sqlite_ledger_url, "OTEL_SERVICE_NAME": "shop"}
    text = run(tmp_path, f"{DISPATCH}close()", SPOKE_TRACES="joined", OTEL_TRACES_EXPORTER="console", **environment)
    span = json.loads(text)
    assert (span["name"], span["kind"]) == ("send report", "SpanKind.PRODUCER")
    assert span["resource"]["attributes"]["service.name"] == "shop"


FORK = """
import os, sys
from spoke_jobs.registry import load_app
load_app("traced_app")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_the_spans_too(tmp_path: Path, sqlite_ledger_url: str) -> None:
    """A server that loads the application before it forks, as gunicorn with `preload_app`, sets traces up only once."""
    environment = {"SPOKE_DATABASE_URL": sqlite_ledger_url, "OTEL_TRACES_EXPORTER": "console"}
    text = run(tmp_path, f"{FORK}{DISPATCH}", SPOKE_TRACES="joined", **environment)
    assert json.loads(text)["name"] == "send report"


def test_the_end_of_a_process_does_not_wait_long_for_a_collector(tmp_path: Path, sqlite_ledger_url: str) -> None:
    """OpenTelemetry's own handler would wait 30 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "SPOKE_DATABASE_URL": sqlite_ledger_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
        }
        text = run(tmp_path, f"{DISPATCH}\nprint(time.time())", SPOKE_TRACES="joined", **environment)
    assert time.time() - float(text) < 20


def test_a_collector_that_does_not_answer_is_not_waited_for() -> None:
    released, finished = threading.Event(), list[int]()

    class Hangs:
        def force_flush(self, milliseconds: int) -> None:
            released.wait(patient(60))
            finished.append(milliseconds)

    flush(0.01, Hangs())  # type: ignore[arg-type]
    assert finished == []
    released.set()
    eventually(lambda: finished == [10])
