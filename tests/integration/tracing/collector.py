"""A collector that processes send their spans to, over OTLP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Sent:
    """A span that a process has sent."""

    service: str
    name: str
    trace_id: str
    id: str
    parent: str
    """Empty for a root."""
    links: tuple[str, ...]
    kind: str
    failed: bool
    began: int
    """In nanoseconds since 1970."""
    attributes: dict[str, str | int] = field(hash=False)


class Collector:
    """Keeps all spans. ``environment`` sends a process's spans here."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._spans: list[Sent] = []
        self._url = f"http://127.0.0.1:{port}"

    def environment(self, service: str) -> dict[str, str]:
        return {
            "SPOKE_TRACES": "joined",
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "NO_PROXY": "127.0.0.1",
        }

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            spans = [_sent(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]
            with self._lock:
                self._spans.extend(spans)

    @property
    def spans(self) -> list[Sent]:
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Sent]:
        """The spans of a name, by attempt."""
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.attributes.get("messaging.spoke_jobs.attempt", 0))

    def one(self, name: str) -> Sent:
        (span,) = self.named(name)
        return span


def _sent(service: str, span: Span) -> Sent:
    return Sent(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.span_id.hex() for link in span.links),
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.status.code == 2,
        span.start_time_unix_nano,
        {item.key: item.value.string_value or item.value.int_value for item in span.attributes},
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
