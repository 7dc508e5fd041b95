"""Processes that run tests at the same time, of one run or of several, take their ports from different ranges."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.ports import _EACH, free_port

REPOSITORY = __file__.partition("/tests/unit/")[0]
COMMAND = "import sys, tests.ports as ports; print(ports.free_port(), flush=True); sys.stdin.read()"


def test_two_processes_have_different_ranges_until_one_ends() -> None:
    with other_process() as one, other_process() as other:
        ranges = [free_port() // _EACH, first_line(one) // _EACH, first_line(other) // _EACH]
        assert len(set(ranges)) == 3
    with other_process() as later:
        assert first_line(later) // _EACH <= max(ranges)


def other_process() -> subprocess.Popen[str]:
    """A process that takes a port and ends at the end of its input."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": REPOSITORY},
    )


def first_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())
