"""The hooks in a worker's child processes: each kind of child calls them, and closes the middleware when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import patient

from spoke_jobs import JobData, JobState, use_runner
from spoke_jobs.dispatch import dispatch_job
from spoke_jobs.registry import load_app
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings

APP = """
import asyncio, json, os
from spoke_jobs import Middleware, Registry, RetryPolicy

registry = Registry()

class Notes(Middleware):
    def note(self, *what):
        with open(os.environ["NOTES"], "a") as file:
            file.write(json.dumps([os.getpid(), *what]) + chr(10))

    async def before_attempt(self, call):
        await asyncio.sleep(0)
        self.note("before", call.job.job_type, call.attempt)

    def after_attempt(self, call):
        self.note("after", call.job.job_type, call.attempt)

    def attempt_failed(self, call, error):
        self.note(type(error).__name__, call.job.job_type, call.attempt)

    def attempt_recorded(self, call, cause):
        self.note("recorded " + cause, call.job.job_type, call.attempt)

    def close(self):
        self.note("close")

registry.add_middleware(Notes())
once_more = RetryPolicy({"error": 2}, backoff_seconds=0)

@registry.job("plain", retry=once_more)
def plain(ctx):
    if ctx.attempt == 1:
        raise ValueError

@registry.job("loop", retry=once_more)
async def loop(ctx):
    await asyncio.sleep(0)
    if ctx.attempt == 1:
        raise ValueError

@registry.job("slow", timeout_seconds=0.2, retry=RetryPolicy({"timeout": 1}))
async def slow(ctx):
    await asyncio.Event().wait()
"""


def test_both_kinds_of_children_call_the_hooks(tmp_path: Path, sqlite_ledger_url: str, monkeypatch: object) -> None:
    (tmp_path / "hooked_app.py").write_text(APP)
    notes = tmp_path / "notes"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])),
        "SPOKE_DATABASE_URL": sqlite_ledger_url,
        "SPOKE_APP": "hooked_app:registry",
        "NOTES": str(notes),
    }
    sys.path.insert(0, str(tmp_path))
    try:
        runner = LegacyRunner(Settings(database_url=sqlite_ledger_url), load_app("hooked_app:registry"))  # type: ignore[arg-type]
    finally:
        sys.path.remove(str(tmp_path))
    with use_runner(runner):
        ids = [dispatch_job(JobData(name)).id for name in ("plain", "loop", "slow")]
    worker = [sys.executable, "-m", "spoke_jobs", "worker", "--drain", "--processes", "1"]
    subprocess.run(worker, env=environment, check=True, timeout=patient(120), cwd=tmp_path)
    states = [row.state for row in map(runner.ledger.get, ids) if row is not None]
    runner.close()
    assert states == [JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED]
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    for name in ("plain", "loop"):
        assert [(what, *number) for _, what, *rest in lines if rest[:1] == [name] for number in [rest[1:]]] == [
            ("before", 1),
            ("ValueError", 1),
            ("recorded JobError", 1),
            ("before", 2),
            ("after", 2),
            ("recorded ", 2),
        ]
    assert [what for _, what, *rest in lines if rest[:1] == ["slow"]] == [
        "before",
        "CancelledError",
        "recorded Timeout",
    ]
    ran = {process for process, what, *_ in lines if what == "before"}
    assert {process for process, what, *_ in lines if what == "close"} >= ran
