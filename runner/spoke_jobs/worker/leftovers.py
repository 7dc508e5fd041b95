"""Processes that a killed job left behind, also in a session of their own (Linux).

A child process has a variable of its own in its environment, which the processes that its jobs start inherit. A process
that clears its environment escapes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "SPOKE_WORKER_CHILD"
"""The variable. Its value is random for each child process."""
_PAUSE_SECONDS = 0.05
"""Between the two scans. The worker does nothing else meanwhile."""


def kill_marked(mark: str) -> None:
    """Kill the processes whose environment has this mark.

    Look twice: a process may start another one during the first scan, and has no environment for a moment when it
    begins another program.
    """
    _kill_all_with(f"{MARK}={mark}".encode())
    time.sleep(_PAUSE_SECONDS)
    _kill_all_with(f"{MARK}={mark}".encode())


def _kill_all_with(entry: bytes) -> None:
    for pid in _processes():
        if entry in _environment(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):  # not Linux
        names = [entry.name for entry in Path("/proc").iterdir()]
        yield from (int(name) for name in names if name.isdigit() and int(name) != os.getpid())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return []
