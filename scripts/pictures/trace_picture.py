"""The picture of a job's trace, docs/pictures/trace.svg.

Processes send their spans to Jaeger, on this machine, and what its API returns is drawn: its Go module has no pages to
look at. If JAEGER_UI names the folder of these pages (`packages/jaeger-ui/build` of Jaeger's repository jaeger-ui), a
browser also takes a picture of them, docs/pictures/trace-jaeger.png.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from scripts.pictures.dashboard import SCREENS, browser_page
from scripts.pictures.trace_drawing import ShownSpan, draw_trace, read_trace
from tests import plain_http
from tests.integration.web.browser.browsing import printed_by
from tests.ports import free_port
from tests.waiting import eventually, patient

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/pictures/trace.svg"
SCREENSHOT = PICTURE.with_name("trace-jaeger.png")
PAGE = ROOT / "docs/how-to/traces.md"
BEGIN, END = "<!-- trace: written by scripts/pictures/draw trace -->", "<!-- trace: end -->"
TITLE = "The trace of a request, its job, the job's second attempt, and a task of that"
SPANS = Counter(f"{what} import_contacts" for what in ("send", *("claim", "process", "complete") * 2))
SPANS.update(("POST /upload", "send welcome", "process welcome"))
"""The names of the spans of the trace. FastAPI makes others in the one of the request."""


@dataclass(frozen=True)
class Jaeger:
    """The process, on loopback."""

    otlp: str
    """Where spans are sent."""
    url: str
    """Where they are read."""

    def trace(self, trace_id: str) -> list[ShownSpan]:
        """Read the spans that have arrived."""
        answer = plain_http.get(f"{self.url}/api/v3/traces/{trace_id}")
        return read_trace(answer.json()) if answer.status_code == 200 else []


def main() -> None:
    """Draw the picture."""
    pages = os.environ.get("JAEGER_UI", "")
    with tempfile.TemporaryDirectory() as folder, running_jaeger(Path(folder), pages) as jaeger:
        trace_id = run_shop(jaeger, f"sqlite:///{folder}/shop.sqlite3")
        spans = eventually(
            lambda: found if is_complete(found := jaeger.trace(trace_id)) else None,
            "all spans to arrive",
            state=lambda: jaeger.trace(trace_id),
        )
        PICTURE.write_text(draw_trace(spans, TITLE))
        if pages:
            take(f"{jaeger.url}/trace/{trace_id}")
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{shown()}\n{END}{after}")


def is_complete(spans: list[ShownSpan]) -> bool:
    """Whether all spans have arrived."""
    return Counter(span.name for span in spans) >= SPANS


def shown() -> str:
    """Return what the page about traces has of the pictures there are."""
    said = "This is such a trace, as the API of Jaeger returns it. FastAPI itself makes the spans `fastapi.*`.\n"
    lines = [said, f"![{TITLE}](../pictures/{PICTURE.name})\n"]
    if SCREENSHOT.exists():
        lines.append(f"![The same trace in Jaeger's pages](../pictures/{SCREENSHOT.name})\n")
    return "\n".join(lines)


@contextmanager
def running_jaeger(folder: Path, pages: str) -> Iterator[Jaeger]:
    """Run Jaeger until the end of the block, with the traces in memory."""
    otlp, query, grpc = (f"127.0.0.1:{free_port()}" for _ in range(3))
    (folder / "jaeger.yaml").write_text(json.dumps(jaeger_config(otlp, query, grpc, pages)))
    with (folder / "jaeger.log").open("w") as log:
        program = printed_by("go-program", "jaeger")
        process = subprocess.Popen([program, "--config", folder / "jaeger.yaml"], stdout=log, stderr=log)
    jaeger = Jaeger(f"http://{otlp}", f"http://{query}")

    def answers() -> bool:
        assert process.poll() is None, (folder / "jaeger.log").read_text()
        try:
            return plain_http.get(f"{jaeger.url}/api/v3/services").status_code == 200
        except httpx.ConnectError:
            return False

    try:
        eventually(answers, "Jaeger answers")
        yield jaeger
    finally:
        process.terminate()
        process.wait(patient(30))


def jaeger_config(otlp: str, query: str, grpc: str, pages: str) -> dict[str, Any]:
    """Return the configuration of Jaeger: it receives OTLP over HTTP, and keeps the traces in memory."""
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": query},
                "grpc": {"endpoint": grpc},
                **({"ui": {"assets_path": pages}} if pages else {}),
            },
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": otlp}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }


def run_shop(jaeger: Jaeger, url: str) -> str:
    """Send the request to the web server, then run the worker until its job has ended. Return the trace's id."""
    run(["-m", "spoke_jobs", "migrate"], url)
    trace_id = run([str(ROOT / "scripts/pictures/trace_shop.py")], url, **sending(jaeger, "web")).strip()
    run(["-m", "spoke_jobs", "worker", "--drain", "--processes", "1"], url, **sending(jaeger, "worker"))
    return trace_id


def sending(jaeger: Jaeger, service: str) -> dict[str, str]:
    """Return the environment of a process that sends its spans to Jaeger."""
    return {
        "SPOKE_TRACES": "joined",
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp,
        "NO_PROXY": "127.0.0.1",
    }


def run(arguments: list[str], url: str, **environment: str) -> str:
    """Run a process of the shop; return what it prints."""
    folders = filter(None, [str(ROOT / "scripts/pictures"), os.environ.get("PYTHONPATH")])
    shop = {"PYTHONPATH": os.pathsep.join(folders), "SPOKE_APP": "trace_shop", "SPOKE_DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | shop | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=patient(120),
    )
    return done.stdout


def take(address: str) -> None:
    """Take a picture of the trace in Jaeger's pages."""
    site, _, path = address.rpartition("/trace/")
    with browser_page(site, SCREENS[""]) as page:
        page.goto(f"/trace/{path}")
        page.get_by_text("process welcome").first.wait_for()
        page.screenshot(path=SCREENSHOT)


if __name__ == "__main__":
    main()
