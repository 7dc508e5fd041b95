"""Set up OpenTelemetry's SDK by its own environment variables, for processes in which nobody else does.

Import this module only where traces are on: it imports OpenTelemetry.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from opentelemetry import trace

TRACER = "spoke_jobs"
"""The name of the instrumentation scope."""
_GROUP = "opentelemetry_traces_exporter"
_END_SECONDS = 2.0
"""How long the end of a process waits for spans to be sent."""
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def exporter_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the exporters that the environment asks for, by the names under which packages register them.

    :raises LookupError: if the protocol of OTLP is unknown.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    given = (name.strip() for name in (environment.get("OTEL_TRACES_EXPORTER") or "otlp").split(","))
    return tuple(_otlp(environment) if name == "otlp" else name for name in given if name and name != "none")


def _otlp(environment: Mapping[str, str]) -> str:
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name, protocol = next(
        ((name, value) for name in variables if (value := environment.get(name))), ("", "http/protobuf")
    )
    if protocol not in _PROTOCOLS:
        raise LookupError(f"{name}={protocol}: there is no such protocol; set one of {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[protocol]


def set_up(environment: Mapping[str, str] = os.environ) -> None:
    """Set up the SDK, unless the application has. The sampler, the resource and the limits are the environment's, too.

    :raises LookupError: if an exporter that the environment names is not installed.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    names = exporter_names(environment)
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)  # it would wait 30 s for a collector that does not answer
    for name in names:
        found = tuple(entry_points(group=_GROUP, name=name))
        if not found:
            known = ", ".join(sorted(entry_points(group=_GROUP).names)) or "none"
            raise LookupError(
                f"the exporter of traces {name!r} is not installed (installed: {known}): install its package, or set "
                "OTEL_TRACES_EXPORTER"
            )
        provider.add_span_processor(BatchSpanProcessor(found[0].load()()))
    trace.set_tracer_provider(provider)
    ending = _Ending(provider.shutdown)
    os.register_at_fork(after_in_child=ending.begin)
    atexit.register(ending.end)


class _Ending:
    """Calls a function at the end of the process, and waits for it no longer than :data:`_END_SECONDS`."""

    def __init__(self, shut_down: Callable[[], object]) -> None:
        self._shut_down = shut_down
        self.begin()

    def begin(self) -> None:
        """Start the thread that calls the function: from Python 3.12 on, none can be started at the end of a process.

        A forked process has no threads of its parent, and needs its own.
        """
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ends,), name="spoke-spans-end", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the thread call the function."""
        self._ends.set()
        self._thread.join(_END_SECONDS)

    def _run(self, ends: threading.Event) -> None:
        ends.wait()
        self._shut_down()


def flush(seconds: float, provider: trace.TracerProvider | None = None) -> None:
    """Send the spans that are still in memory.

    :param seconds: the longest wait. The SDK itself would wait for a collector that does not answer.
    """
    force_flush = getattr(provider or trace.get_tracer_provider(), "force_flush", None)
    if force_flush is None:
        return
    flushing = threading.Thread(target=force_flush, args=(int(seconds * 1000),), name="spoke-spans", daemon=True)
    flushing.start()
    flushing.join(seconds)
