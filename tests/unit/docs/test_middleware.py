"""The middleware of docs/how-to/middleware.md works as it is shown; Sentry's events go to a server of the test."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.unit.docs.typed_blocks import BLOCKS
from tests.waiting import patient

import spoke_jobs
from spoke_jobs import JobData, Registry
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

SLOW, SENTRY = (block for block in BLOCKS if block.page == "docs/how-to/middleware.md" and block.language == "python")
APPLICATION = """
import os
from contextlib import suppress
from spoke_jobs import JobData, RetryPolicy, job, task
from spoke_jobs.middleware.hook_calls import close_all
from spoke_jobs.registry import default
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

@job("import_contacts", retry=RetryPolicy({"error": 2}, backoff_seconds=0))
def import_contacts(ctx, payload):
    phone = payload["phone"]
    if ctx.attempt == 1:
        raise ValueError("line 3 is empty")

@job("discarded")
def discarded(ctx):
    raise Discard("nobody needs it")

@task("send")
async def send(ctx):
    raise ConnectionError("no answer")

runner = MemoryRunner(Settings(), default)
runner.dispatch_job(JobData("import_contacts", {"phone": os.environ["PHONE"]}))
runner.dispatch_job(JobData("discarded"))
runner.dispatch_task("send")
with suppress(ConnectionError):
    runner.drain()
close_all(default.middleware)  # as a pod does
os._exit(0)
"""
"""It runs in a process of its own, because Sentry's client changes the standard library."""


class Endpoint:
    """Takes events as a Sentry server does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                endpoint.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self._server.server_port}/1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def take(self, envelope: bytes) -> None:
        """Note the events of an envelope: a line for the envelope, then two for each item."""
        found = (json.loads(line) for line in envelope.splitlines() if line.startswith(b"{"))
        self.events.extend(item for item in found if "exception" in item)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def test_a_slow_attempt_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    monkeypatch.setattr(spoke_jobs, "add_middleware", registry.add_middleware)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(SLOW.body, names)
    seconds = iter([0.0, 61.0, 100.0, 101.0])
    monkeypatch.setitem(names, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(seconds))}))
    registry.job("report")(lambda _ctx: None)
    runner = MemoryRunner(Settings(), registry)
    slow, _quick = runner.dispatch_job(JobData("report")), runner.dispatch_job(JobData("report"))
    runner.drain()
    said = [(record.levelno, record.message) for record in caplog.records if record.name == "shown"]
    assert said == [(logging.WARNING, f"job {slow.id} took 61 s")]


def test_sentry_gets_what_jobs_and_tasks_raise(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(SENTRY.body + APPLICATION)
    environment = os.environ | {"SENTRY_DSN": endpoint.dsn, "PHONE": "+15550100"}  # source lines are sent, too
    subprocess.run([sys.executable, tmp_path / "shown.py"], env=environment, check=True, timeout=patient(60))
    by_type = {event["exception"]["values"][-1]["type"]: event for event in endpoint.events}
    assert sorted(by_type) == ["ConnectionError", "ValueError"]
    assert len(endpoint.events) == 2
    of_job, of_task = by_type["ValueError"], by_type["ConnectionError"]
    assert of_job["tags"] == {"job_type": "import_contacts", "job_id": 1, "attempt": 1}
    assert {"task": "send", "attempt": 1}.items() <= of_task["tags"].items()
    assert "job_id" not in of_task["tags"]  # each call has a scope of its own
    assert of_job["exception"]["values"][-1]["value"] == "line 3 is empty"
    assert "+15550100" not in json.dumps(endpoint.events)
