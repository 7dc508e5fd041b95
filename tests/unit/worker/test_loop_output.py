"""The output of jobs of one event loop. It replaces the process's streams, so each test has a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.waiting import patient

_BEGIN = """
import gc, math, os, sys, threading
from uuid import uuid4
from spoke_jobs.worker import loop_output
token = uuid4()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BEGIN + script], capture_output=True, text=True, timeout=patient(60), check=True
    )


def test_code_that_a_garbage_collection_runs_may_print() -> None:
    """A collection may begin anywhere, and run the `__del__` of an object or of an asyncio task."""
    script = """
output = loop_output.LoopOutput(lambda: token, lambda *_: None, math.inf)
gc.callbacks.append(lambda phase, _: sys.stdout.write("collected\\n") if phase == "stop" else None)
with output.of(17, token):
    gc.set_threshold(1)
    for number in range(100):
        sys.stdout.write(str(["line", number]) + "\\n")
    gc.set_threshold(0)
"""
    lines = run(script).stderr.splitlines()
    assert "job 17: collected" in lines
    assert [line for line in lines if "line" in line] == [f"job 17: ['line', {number}]" for number in range(100)]


def test_output_of_a_running_attempt_is_stored_once_it_has_taken_long() -> None:
    script = """
loop_output.OUTPUT_SECONDS = 0.01
long, stored = uuid4(), threading.Event()
def store(of, text):
    os.write(1, ("long: " if of == long else "short: ").encode() + text.encode())
    stored.set()
output = loop_output.LoopOutput(lambda: now, store, 3600.0)
with output.of(1, token), output.of(2, long):
    output._printed[long].began -= 7200
    for now in (token, long):
        sys.stdout.write("printed\\n")
    stored.wait(50)
os._exit(0)
"""
    assert run(script).stdout == "long: printed\n"
