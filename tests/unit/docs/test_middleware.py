"""The middleware of docs/how-to/middleware.md works as it is shown; Sentry's events go to a server of the test."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
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


TRANSPORT = """
import json
import sentry_sdk.client
from sentry_sdk.transport import Transport

class Prints(Transport):
    '''In place of a Sentry server. Like the client's own, it sends later: what is not flushed is lost.'''

    events = []

    def capture_envelope(self, envelope):
        self.events.append(envelope.get_event())

    def flush(self, timeout, callback=None):
        print(*map(json.dumps, filter(None, self.events)), sep="\\n", flush=True)

sentry_sdk.client.make_transport = Prints
"""


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


def test_sentry_gets_what_jobs_and_tasks_raise(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(TRANSPORT + SENTRY.body + APPLICATION)
    dsn = "http://key@127.0.0.1:9/1"
    environment = os.environ | {"SENTRY_DSN": dsn, "PHONE": "+15550100"}  # source lines are sent, too
    done = subprocess.run(
        [sys.executable, tmp_path / "shown.py"],
        env=environment,
        check=True,
        timeout=patient(60),
        stdout=subprocess.PIPE,
        text=True,
    )
    events = list(map(json.loads, done.stdout.splitlines()))
    by_type = {event["exception"]["values"][-1]["type"]: event for event in events}
    assert sorted(by_type) == ["ConnectionError", "ValueError"]
    assert len(events) == 2
    of_job, of_task = by_type["ValueError"], by_type["ConnectionError"]
    assert of_job["tags"] == {"job_type": "import_contacts", "job_id": 1, "attempt": 1}
    assert {"task": "send", "attempt": 1}.items() <= of_task["tags"].items()
    assert "job_id" not in of_task["tags"]  # each call has a scope of its own
    assert of_job["exception"]["values"][-1]["value"] == "line 3 is empty"
    assert "+15550100" not in done.stdout
